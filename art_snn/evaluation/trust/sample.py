"""What flags are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from art.estimators.classification import PyTorchClassifier


@dataclass(frozen=True)
class Sample:
    """What flags are measured on.

    :param classifier: The classifier.
    :param x: Inputs `(n, ...)` that it classifies correctly.
    :param labels: Their classes `(n,)`.
    :param eps: ε.
    :param norm: The norm.
    :param seed: Seed of what is drawn.
    :param batch_size: Samples of one batch.
    """

    classifier: PyTorchClassifier
    x: np.ndarray
    labels: np.ndarray
    eps: float
    norm: float
    seed: int
    batch_size: int

    @property
    def one_hot(self) -> np.ndarray:
        """Labels `(n, K)`."""
        return np.eye(self.classifier.nb_classes, dtype=np.float32)[self.labels]

    def logits(self, x: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """
        :param x: Inputs `(N, ...)`.
        :param batch_size: Samples of one batch, if others than usual.
        :return: What the classifier predicts, `(N, K)`.
        """
        return np.asarray(self.classifier.predict(x, batch_size=batch_size or self.batch_size), dtype=np.float64)


def percent(share: float) -> str:
    """
    :param share: A share, from 0 to 1.
    :return: It in words.
    """
    return f"{100 * share:.1f} %"
