"""Handwritten digits, embedded: scikit-learn's copy of the UCI test set, 1,797 images of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np

from art_snn.datasets._common import Dataset, choose, one_hot, split

CLASSES = 10


def digits(*, seed: int = 0, limit: int | None = None, test_size: float = 0.2) -> Dataset:
    """
    Handwritten digits, 8 x 8; nothing to download.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998 (https://doi.org/10.24432/C50P49), the test part, as scikit-learn ships it.

    :param seed: Seed of the stratified split and of the draw under a limit.
    :param limit: At most so many training samples and so many test samples, class-balanced; None is all.
    :param test_size: Share of the test set, in (0, 1). The default gives 1,437 training and 360 test images.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, 1.0`; x is `(N, 1, 8, 8)` in [0, 1], float32; y is one-hot,
             `(N, 10)`.
    :raises ValueError: If an argument is out of range.
    """
    images, labels = load_images()
    train, test = split(labels, test_size, seed, "digits")
    parts = []
    for part in (train, test):
        rows = part[choose(labels[part], limit, seed)]
        parts.append((images[rows], one_hot(labels[rows], CLASSES)))
    return parts[0], parts[1], 0.0, 1.0


def load_images() -> tuple[np.ndarray, np.ndarray]:
    """
    :return: All images `(1797, 1, 8, 8)` in [0, 1], float32, and their labels `(1797,)`.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    return (source.images[:, None] / 16.0).astype(np.float32), source.target
