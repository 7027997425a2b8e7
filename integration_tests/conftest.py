"""ART's own progress bars and warnings are not what these tests are about; weights are the same in every run."""

import logging

import pytest
import torch


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
