"""Samples of a data set: the form ART wants them in, which of them are wanted, and which are for testing.

Every loader answers in ART's form, `(x_train, y_train), (x_test, y_test), min, max`: float32 inputs, one-hot float32
labels, and the two clip values.
"""

from __future__ import annotations

from typing import Annotated, TypedDict

import numpy as np
from art.utils import to_categorical

from art_snn.datasets.checks import check_positive
from art_snn.keywords import Keyword

Split = tuple[np.ndarray, np.ndarray]
Dataset = tuple[Split, Split, float, float]


class Choice(TypedDict, total=False):
    """What every loader takes."""

    limit: Annotated[
        int | None,
        Keyword(None, "At most so many training samples and so many test samples, class-balanced; None is all."),
    ]
    seed: Annotated[
        int, Keyword(0, "Seed of the draw under a limit, and of the split of a data set that comes without one.")
    ]


class Share(TypedDict, total=False):
    """What a loader takes whose data set comes without a split."""

    test_size: Annotated[float, Keyword(0.2, "Share of the test set, in (0, 1).")]


def choose(labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """
    Which samples to keep, and in which order.

    Without a limit: all, in the order of the data set. With one: at most `limit` samples, drawn by the seed and dealt
    out class by class, so that the first `n` of them are class-balanced for every `n`, as far as the classes last, and
    a smaller limit gives the beginning of a larger one.

    :param labels: Integer labels `(N,)`.
    :param limit: Largest number of samples, or None.
    :param seed: Seed of the draw.
    :return: Indices into `labels`.
    :raises ValueError: If the limit is not a positive integer.
    """
    labels = np.asarray(labels)
    if limit is None:
        return np.arange(len(labels))
    check_positive("limit", limit)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # a sample's place among the shuffled samples of its class
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))[:limit]


def split(labels: np.ndarray, test_size: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """
    A stratified split: every class gives the same share to the test set.

    :param labels: Integer labels `(N,)`.
    :param test_size: Share of the test set, in (0, 1).
    :param seed: Seed of the split.
    :param name: What is split, for the error.
    :return: Indices of the training and of the test samples, each shuffled.
    :raises ValueError: If the share is out of range, or too small for one test sample of every class.
    """
    from sklearn.model_selection import train_test_split

    if not 0.0 < test_size < 1.0:
        raise ValueError(f"test_size must be between 0 and 1, got {test_size!r}")
    try:
        train, test = train_test_split(np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise ValueError(f"{name}: no stratified split with test_size={test_size}: {error}") from error
    return train, test


def one_hot(labels: np.ndarray, nb_classes: int) -> np.ndarray:
    """
    :param labels: Integer labels `(N,)`.
    :param nb_classes: Number of classes K.
    :return: One-hot labels `(N, K)`, float32.
    """
    return to_categorical(labels, nb_classes).astype(np.float32, copy=False)
