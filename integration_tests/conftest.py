"""ART's own progress bars and warnings are not what these tests are about."""

import logging

import pytest


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
