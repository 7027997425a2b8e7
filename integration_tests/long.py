"""What takes minutes and hours runs by name: `tox -e long`, with `ART_SNN_LONG` set."""

import os

import pytest

WANTED = "ART_SNN_LONG" in os.environ

#: Marks of a test that is left out otherwise.
LONG = (pytest.mark.long, pytest.mark.skipif(not WANTED, reason="it takes minutes: tox -e long"))
