"""Arguments that must be whole numbers above 0."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_positive(name: str, value: int) -> None:
    """
    :param name: Name of the argument, for the error.
    :param value: Its value.
    :raises ValueError: If it is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_size(size: Any) -> tuple[int, int]:
    """
    :param size: Height and width asked for.
    :return: The same as two integers.
    :raises ValueError: If it is not a pair of positive integers.
    """
    try:
        height, width = size
    except (TypeError, ValueError):
        raise ValueError(f"size must be (height, width), got {size!r}") from None
    check_positive("the height in size", height)
    check_positive("the width in size", width)
    return int(height), int(width)
