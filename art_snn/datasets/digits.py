"""Handwritten digits, embedded: scikit-learn's copy of the UCI test set, 1,797 images of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np
from typing_extensions import Unpack

from art_snn.datasets.samples import Choice, Dataset, Share, choose, one_hot, split
from art_snn.keywords import spelled_out

CLASSES = 10


class Digits(Choice, Share, total=False):
    """What `digits` takes."""


@spelled_out()
def digits(**settings: Unpack[Digits]) -> Dataset:
    """
    Handwritten digits, 8 x 8; nothing to download.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998 (https://doi.org/10.24432/C50P49), the test part, as scikit-learn ships it.

    The default split, stratified, gives 1,437 training and 360 test images.

    :param settings: Which of them are wanted.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, 1.0`; x is `(N, 1, 8, 8)` in [0, 1], float32; y is one-hot,
             `(N, 10)`.
    :raises ValueError: If an argument is out of range.
    """
    images, labels = load_images()
    train, test = split(labels, settings["test_size"], settings["seed"], "digits")
    parts = []
    for part in (train, test):
        rows = part[choose(labels[part], settings["limit"], settings["seed"])]
        parts.append((images[rows], one_hot(labels[rows], CLASSES)))
    return parts[0], parts[1], 0.0, 1.0


def load_images() -> tuple[np.ndarray, np.ndarray]:
    """
    :return: All images `(1797, 1, 8, 8)` in [0, 1], float32, and their labels `(1797,)`.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    return (source.images[:, None] / 16.0).astype(np.float32), source.target
