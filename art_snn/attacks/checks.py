"""What attacks of our own, and the evaluation that runs them, are given: numbers in range, labels as classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def check_eps(eps: Any) -> None:
    """
    :param eps: Radius ε of a ball.
    :raises ValueError: Unless it is a finite number > 0.
    """
    number = isinstance(eps, (int, float, np.number)) and not isinstance(eps, bool)
    if not number or not 0.0 < eps < math.inf:
        raise ValueError(f"eps must be a finite number > 0, on the data's scale, got {eps!r}.")


def check_whole(name: str, value: Any, least: int) -> None:
    """
    :param name: A parameter.
    :param value: What it is.
    :param least: The smallest that it may be.
    :raises ValueError: Unless it is a whole number of at least that.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}.")


def class_indices(y: Any, samples: int, nb_classes: int) -> np.ndarray:
    """
    :param y: Labels, one-hot `(N, K)`, or classes `(N,)` or `(N, 1)`.
    :param samples: Number N of samples.
    :param nb_classes: Number K of classes.
    :return: Classes `(N,)`.
    :raises ValueError: If they do not fit.
    """
    y = np.asarray(y)
    if y.ndim == 0 or len(y) != samples:
        raise ValueError(f"y must hold a label for each of {samples} samples, got {y.size if y.ndim == 0 else len(y)}.")
    if y.shape == (samples, nb_classes):
        return y.argmax(1)
    if y.shape not in ((samples,), (samples, 1)):
        raise ValueError(f"y must be one-hot (N, {nb_classes}) or classes (N,), got shape {y.shape}.")
    classes = y.reshape(-1)
    if (classes < 0).any() or (classes >= nb_classes).any() or (classes != np.floor(classes)).any():
        raise ValueError(f"y must hold classes from 0 to {nb_classes - 1}, got {classes.min()} to {classes.max()}.")
    return classes.astype(np.int64)
