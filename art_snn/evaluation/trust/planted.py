"""Does the attack find what is there for certain? `planted-missed`.

Zimmermann et al., "Increasing confidence in adversarial robustness evaluations" (NeurIPS 2022). For a sample, points
are drawn in 0.95 of its ball, and one on the ball's edge. A readout of two classes is fitted on the network's own
features, those before its last linear layer, so that the inner points and the sample are of one class and the edge
point of the other: an adversarial example exists inside the ball, and the attack must find one. The features of a
spiking network are spike counts, which may be the same for the edge point and an inner one; where no readout tells them
apart the set-up has failed, and does not count. So has one that random points solve.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from sklearn.svm import SVC
from torch import Tensor, nn

from art_snn.attacks import SAPGD
from art_snn.chains import ASSG, AdaptiveHART
from art_snn.evaluation.flag import Flag
from art_snn.evaluation.trust.attacks import along
from art_snn.evaluation.trust.sample import Sample

#: Inner points of a readout, the share of the ball that they are drawn in, and samples that are tried.
POINTS, INNER, TRIED = 200, 0.95, 10

#: Steps of the attack, and as many points of the random search; the chains that it follows, one after the other.
STEPS, CHAINS = 100, (AdaptiveHART(), ASSG(0.46))

#: Share of the set-ups that the attack may miss: one in ten may be beyond any gradient.
MISSED = 0.1

#: Share of the random points that may solve a set-up: more, and finding it says nothing.
EASY = 0.02


@dataclass(frozen=True)
class Found:
    """What became of the set-ups.

    :param failed: Those that no readout tells apart, or that random points solve.
    :param found: Those of the others in which the attack found the planted class.
    :param missed: Those in which it did not.
    """

    failed: int
    found: int
    missed: int


def flag(sample: Sample) -> Flag:
    """
    :param sample: What is examined.
    :return: The flag of this module.
    """
    name = "planted-missed"
    layer = last_linear(sample)
    if layer is None:
        meaning = "the network has no last linear layer whose inputs could be read, so that nothing could be planted."
        return Flag(name, None, MISSED, meaning, False)
    found = planted(sample, layer)
    tried = found.found + found.missed
    if tried < TRIED / 2:
        meaning = f"too little could be planted: {found.failed} set-ups were of no use (equal features, or too easy)."
        return Flag(name, None, MISSED, meaning, False)
    missed = found.missed / tried
    meaning = (
        f"of {tried} adversarial examples that are there for certain the attack found {found.found}; random points as "
        f"many as its steps found none of them, and {found.failed} set-ups were of no use."
    )
    return Flag(name, missed, MISSED, meaning, missed > MISSED)


def planted(sample: Sample, layer: str) -> Found:
    """
    :param sample: What is examined.
    :param layer: Name of the network's last linear layer.
    :return: What became of the set-ups.
    """
    counts = {"failed": 0, "found": 0, "missed": 0}
    network = sample.classifier.model
    features = _Features(network, layer, sample.classifier.device)
    for number, x in enumerate(sample.x[:TRIED]):
        draw = np.random.default_rng([sample.seed, number])
        inner = np.concatenate([x[None], _in_ball(sample, x, draw, POINTS, INNER)])
        edge = _on_edge(sample, x, draw)
        readout = _fitted(features(inner), features(edge))
        counts["failed" if readout is None else _outcome(sample, network, layer, readout, x, draw)] += 1
    return Found(**counts)


def last_linear(sample: Sample) -> str | None:
    """
    :param sample: What is examined.
    :return: The name of the linear layer that gives the logits, if there is one: what it gives, averaged over time, is
        what the classifier predicts.
    """
    network = sample.classifier.model
    names = [name for name, module in network.named_modules() if type(module) is nn.Linear]
    if not names:
        return None
    return names[-1] if _Features(network, names[-1], sample.classifier.device)(sample.x[:2]) is not None else None


class _Features:
    """What the last linear layer is given for each sample: the mean over time, where there is time."""

    def __init__(self, network: nn.Module, layer: str, device: torch.device) -> None:
        self.network, self.layer, self.device = network, layer, device
        self.steps = int(getattr(network, "time_steps", 1))

    def __call__(self, x: np.ndarray) -> np.ndarray | None:
        """
        :param x: Inputs `(N, ...)`.
        :return: Its inputs `(N, F)`; None if the logits are not what it makes of them.
        """
        seen: list[Tensor] = []
        module = self.network.get_submodule(self.layer)
        handle = module.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
        try:
            with torch.no_grad():
                logits = self.network(torch.from_numpy(x).to(self.device))
        finally:
            handle.remove()
        # All steps of the batch at once, or step by step; or the batch in parts, all steps of a part at once.
        for lead in (lambda rows: (rows // len(x), len(x)), lambda rows: (self.steps, rows // self.steps)):
            found = self._mean(seen, lead, len(x))
            if found is not None and _close(module(found), logits):
                return found.double().cpu().numpy()
        return None

    def _mean(self, seen: list[Tensor], lead: Any, number: int) -> Tensor | None:
        """The mean over time, if calls of so many rows are of that arrangement."""
        rows = [each.flatten(0, -2) for each in seen]
        if any(math.prod(lead(len(each))) != len(each) for each in rows):
            return None
        parts = [each.reshape(*lead(len(each)), -1) for each in rows]
        if all(part.shape[1] == number for part in parts):
            return torch.cat(parts).mean(0)
        found = torch.cat([part.mean(0) for part in parts])
        return found if len(found) == number else None


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two logits are the same, but for rounding."""
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= 1e-4 * other.abs().max().clamp(min=1e-30))


def _fitted(inner: np.ndarray | None, edge: np.ndarray | None) -> tuple[np.ndarray, float] | None:
    """Weights and bias that are above 0 for the edge point and below for all others, or None if there are none."""
    if inner is None or edge is None or (np.abs(inner - edge).max(1) == 0).any():
        return None
    machine = SVC(kernel="linear", C=1e6).fit(np.concatenate([inner, edge]), np.r_[np.zeros(len(inner)), 1])
    weights = machine.coef_[0]
    low, high = float((inner @ weights).max()), float((edge @ weights)[0])
    if high - low <= 1e-6 * np.abs(edge @ weights).max():
        return None
    return weights / (high - low), -(low + high) / 2 / (high - low)


def _outcome(
    sample: Sample, network: nn.Module, layer: str, readout: tuple[np.ndarray, float], x: np.ndarray, draw: Any
) -> str:
    classifier = _binary(sample.classifier, network, layer, readout)
    randomly = classifier.predict(_in_ball(sample, x, draw, STEPS, 1.0), batch_size=sample.batch_size).argmax(1) == 1
    if classifier.predict(x[None]).argmax(1)[0] == 1 or randomly.mean() > EASY:
        return "failed"
    settings: dict[str, Any] = {"norm": sample.norm, "eps": sample.eps, "max_iter": STEPS, "seed": sample.seed}
    for chain in CHAINS:
        attack = SAPGD(classifier, loss_type="margin", verbose=False, **settings)
        with along(classifier, chain):
            found = attack.generate(x[None].copy(), np.zeros(1, dtype=np.int64))
        if classifier.predict(found).argmax(1)[0] == 1:
            return "found"
    return "missed"


def _binary(
    classifier: PyTorchClassifier, network: nn.Module, layer: str, readout: tuple[np.ndarray, float]
) -> PyTorchClassifier:
    """The same network with another last layer, of two classes."""
    twin = copy.deepcopy(network)
    old = twin.get_submodule(layer)
    weights, bias = readout
    new = nn.Linear(len(weights), 2).to(old.weight)  # type: ignore[arg-type]
    with torch.no_grad():
        new.weight.copy_(torch.from_numpy(np.stack([-weights, weights]) / 2))
        new.bias.copy_(torch.tensor([-bias, bias]) / 2)
    place, _, name = layer.rpartition(".")
    setattr(twin.get_submodule(place), name, new)
    return type(classifier)(
        twin,
        nn.CrossEntropyLoss(),
        classifier.input_shape,
        2,
        clip_values=classifier.clip_values,
        device_type="cpu" if classifier.device.type == "cpu" else "gpu",
    )


def _in_ball(sample: Sample, x: np.ndarray, draw: Any, number: int, share: float) -> np.ndarray:
    """Points of a share of the ball, in the range."""
    if sample.norm == np.inf:
        moved = draw.uniform(-1, 1, (number, *x.shape)) * sample.eps * share
    else:
        way = draw.standard_normal((number, x.size))
        length = sample.eps * share * draw.uniform(size=(number, 1)) ** (1 / x.size)
        moved = (length * way / np.linalg.norm(way, axis=1, keepdims=True)).reshape(number, *x.shape)
    return _clipped(sample, x + moved)


def _on_edge(sample: Sample, x: np.ndarray, draw: Any) -> np.ndarray:
    """A point of the ball's edge, in the range."""
    if sample.norm == np.inf:
        moved = sample.eps * draw.choice([-1.0, 1.0], (1, *x.shape))
    else:
        way = draw.standard_normal((1, x.size))
        moved = (sample.eps * way / np.linalg.norm(way)).reshape(1, *x.shape)
    return _clipped(sample, x + moved)


def _clipped(sample: Sample, x: np.ndarray) -> np.ndarray:
    clip = sample.classifier.clip_values
    return (x if clip is None else np.clip(x, *clip)).astype(np.float32)
