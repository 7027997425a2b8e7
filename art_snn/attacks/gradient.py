"""Logits and gradient of any loss out of one forward pass, of ART's PyTorch classifiers as of this package's.

ART's own attacks take a gradient from `loss_gradient` and then predict once more to see whether the sample is fooled; a
gradient has seen the logits already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_snn.classifier import PyTorchSNNClassifier

#: A loss of each sample `(B,)`, of logits `(B, K)` and classes `(B,)`: what an attack makes large.
Loss = Callable[[Tensor, Tensor], Tensor]


class _Watched(nn.Module):
    """A loss that keeps the logits which it was asked for."""

    reduction = "sum"

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss, self.logits = loss, list[Tensor]()

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_outputs(logits.shape[1])
        self.logits.append(logits.detach())
        return self.loss(logits, labels.argmax(1) if labels.dim() > 1 else labels).sum()


def logits_and_gradient(classifier: PyTorchClassifier, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """
    :param classifier: ART's classifier; of a spiking one the gradient follows its chain.
    :param x: Inputs `(B, *input_shape)`, on its device.
    :param labels: Classes `(B,)`.
    :param loss: The loss.
    :return: Logits `(B, K)`, before postprocessing defences, the mean over the draws where the gradient is one; and the
        gradient of each sample's loss, of the shape of `x`.
    """
    one_hot = torch.nn.functional.one_hot(labels, classifier.nb_classes).to(x.dtype)
    with _losing(classifier, loss) as watched:
        if classifier.all_framework_preprocessing:
            grad = classifier.loss_gradient(x, one_hot)
        else:  # defences that are numpy's
            grad = torch.from_numpy(classifier.loss_gradient(x.cpu().numpy(), one_hot.cpu().numpy())).to(x)
    if _has_activation(classifier):
        return logits(classifier, x), grad
    return torch.stack(watched.logits).mean(0), grad


def logits(classifier: PyTorchClassifier, x: Tensor) -> Tensor:
    """
    :param classifier: ART's classifier.
    :param x: Inputs `(N, *input_shape)`.
    :return: What it predicts, `(N, K)`, after postprocessing defences.
    """
    found = np.asarray(classifier.predict(x.cpu().numpy(), batch_size=len(x)))
    check_outputs(found.shape[1])
    return torch.from_numpy(found).to(x.device)


def draws(classifier: PyTorchClassifier) -> int | None:
    """
    :param classifier: ART's classifier.
    :return: How many of its passes drew something at random; None where the logits of a gradient may be others than are
        predicted, or nothing is known of it: with defences, along an activation network, or if it is not a spiking one.
    """
    if not isinstance(classifier, PyTorchSNNClassifier) or _has_activation(classifier):
        return None
    return None if classifier.preprocessing_defences or classifier.postprocessing_defences else classifier.model.draws


def check_outputs(outputs: int) -> None:
    """
    :param outputs: Number of a network's outputs.
    :raises ValueError: If two classes share one.
    """
    if outputs < 2:
        raise ValueError("estimator must have an output for each class; a network of one output is not attacked so.")


@contextmanager
def _losing(classifier: Any, loss: Loss) -> Iterator[_Watched]:
    """Inside the block the classifier's loss is another."""
    before, watched = classifier._loss, _Watched(loss)
    classifier._loss = watched
    try:
        yield watched
    finally:
        classifier._loss = before


def _has_activation(classifier: PyTorchClassifier) -> bool:
    """Whether a gradient's forward pass is that of an activation network, in part at least."""
    chain = classifier.chain if isinstance(classifier, PyTorchSNNClassifier) else None
    return chain is not None and any(part.has_activation for _, part in chain.parts())
