"""ART's own progress bars and warnings are not what these tests are about; weights are the same in every run."""

import logging

import pytest

from integration_tests.art_support import settings


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def seeded():
    settings.seeded()
