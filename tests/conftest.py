"""Weights that a test does not seed itself are the same in every run."""

import pytest
import torch

torch.manual_seed(0)  # for networks that are built while tests are collected


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
