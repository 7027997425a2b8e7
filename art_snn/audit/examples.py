"""What the figures show of the network itself: a few inputs before and after an attack, what is predicted for them, and
which neurons spike when, under one of them and under its adversarial input.

It is found when the audit runs, and kept with its findings, so that figures need no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from art_snn.audit.cells import Cell
from art_snn.audit.settings import SCENARIOS
from art_snn.audit.solve import Solver
from art_snn.audit.subjects import Samples
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.engine.isolate import own_randomness
from art_snn.engine.visit import Simulate
from art_snn.neurons import SpikingLayer

#: Inputs that are shown.
EXAMPLES = 8
#: Neurons of a layer whose spikes are shown.
NEURONS = 16
#: Names of the clean inputs, and of their true classes, beside those of the chains.
CLEAN, TRUE = "clean", "true"


@dataclass(frozen=True)
class LayerSpikes:
    """Spikes of some neurons of one layer, under a clean input and under its adversarial one.

    :param layer: The layer, by its path in the network.
    :param neurons: How many neurons it has.
    :param firing: How many of them fire under either input: those shown are at equal distances among them.
    :param rates: Spikes for each neuron and time step, under the clean input and the adversarial one.
    :param spikes: Whether a neuron fires, `(2, T, shown)`.
    """

    layer: str
    neurons: int
    firing: int
    rates: tuple[float, float]
    spikes: np.ndarray


@dataclass(frozen=True)
class Raster:
    """Which neurons spike when.

    :param sample: Which of the examples it is of.
    :param chain: The chain of its adversarial input.
    :param layers: The spiking layers, in the order in which they run.
    """

    sample: int
    chain: str
    layers: list[LayerSpikes]


def images(solver: Solver, gammas: Mapping[str, float | None]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """
    :param solver: An audit's subjects.
    :param gammas: The chains of the white-box attack that comes last, with the γ that was chosen for each.
    :return: A few clean inputs, and what that attack makes of them along each chain; and their true classes, and those
        that the target predicts for each of them.
    """
    settings, attacked = solver.settings, solver.subjects.attacked
    few = Samples(attacked.x[:EXAMPLES], attacked.y[:EXAMPLES])
    found = {CLEAN: few.x}
    for chain, gamma in gammas.items():
        cell = Cell(settings.attacks[-1], SCENARIOS[0], chain, settings.eps, settings.seed)
        found[chain] = solver.images(cell, gamma, few)
    classes = {name: solver.classes(solver.subjects.target, x) for name, x in found.items()}
    return found, {TRUE: few.labels, **classes}


def raster(
    solver: Solver, chain: str, inputs: Mapping[str, np.ndarray], classes: Mapping[str, np.ndarray]
) -> Raster | None:
    """
    :param solver: An audit's subjects.
    :param chain: The chain of the adversarial input.
    :param inputs: What :func:`images` gave.
    :param classes: Likewise.
    :return: The spikes of the first example that the chain fools, or of the first of all if it fools none; None if the
        target has no spiking neurons.
    """
    target = solver.subjects.target
    if not isinstance(target, PyTorchSNNClassifier):
        return None
    fooled = (classes[CLEAN] == classes[TRUE]) & (classes[chain] != classes[TRUE])
    sample = int(fooled.argmax())
    found = spikes(target, np.stack([inputs[CLEAN][sample], inputs[chain][sample]]))
    return Raster(sample, chain, [_layer(name, fired) for name, fired in found])


def spikes(classifier: PyTorchSNNClassifier, x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """
    :param classifier: A spiking network.
    :param x: A few inputs `(N, *input_shape)`, which are simulated in one go.
    :return: For each visit of a spiking layer, its path in the network, and which of its neurons fire when,
        `(N, T, neurons)`.
    """
    network = classifier.model.eval()
    x, _ = classifier._apply_preprocessing(x, y=None, fit=False)
    with torch.no_grad(), own_randomness(network):
        frames = network.frames(torch.as_tensor(x).to(classifier.device, network.dtype))
        record = _Record(*frames.shape[:2], layout=network.layout)
        network.run(frames, record)
    names = {module: name for name, module in network.body.named_modules(prefix="body")}
    return [
        (names.get(layer.module, type(layer.module).__name__), _fired(parts))
        for (layer, _), parts in record.kept.items()
    ]


class _Record(Simulate):
    """Visitor: run the neurons, and keep what they give at every time step."""

    def __init__(self, *args: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.kept: dict[tuple[SpikingLayer, int], list[Tensor]] = {}

    def spikes(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        found = super().spikes(layer, x)
        self.kept[layer, self.met[layer] - 1] = [found]
        return found

    def step(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        found = super().step(layer, x)
        self.kept.setdefault((layer, self.met[layer] - 1), []).append(found.unsqueeze(0))
        return found


def _fired(parts: list[Tensor]) -> np.ndarray:
    """Spikes `(T, N, ...)`, in parts, as `(N, T, neurons)`: what is not 0, which a layer may have scaled."""
    return (torch.cat(parts).flatten(2) != 0).transpose(0, 1).cpu().numpy()


def _layer(name: str, fired: np.ndarray) -> LayerSpikes:
    active = np.flatnonzero(fired.any((0, 1)))
    places = np.unique(np.linspace(0, max(len(active) - 1, 0), NEURONS).round().astype(int))
    shown = active[places] if len(active) else np.arange(0)
    rates = [float(rate) for rate in fired.mean((1, 2))]
    return LayerSpikes(name, fired.shape[2], len(active), (rates[0], rates[1]), fired[:, :, shown])
