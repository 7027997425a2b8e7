r"""From a network with rectifiers to a spiking one with the same weights (ANN-to-SNN conversion).

An IF neuron with soft reset turns a constant current x into the rate floor(T x / θ) / T, a rectifier quantised to T
levels and cut off at θ. So each rectifier becomes

.. math:: \text{ReLU}(x) \;→\; θ \cdot \text{IF}_θ\left(x + \frac{θ}{2T}\right),

with θ a high percentile of the rectifier's input on some data (Rueckauer et al., 2017) and half a level added to the
current, which rounds instead of cutting off (Deng & Gu, 2021).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from art_snn.encoders import Encoder, EventFrames
from art_snn.models.architecture import OverFrames
from art_snn.network import SpikingNetwork, check_time_steps
from art_snn.neurons import IF

BATCH = 128


class ConvertedReLU(nn.Module):
    """θ IF(x + θ / 2T).

    :param threshold: Threshold θ > 0.
    :param time_steps: Number of time steps T.
    """

    def __init__(self, threshold: float, time_steps: int) -> None:
        super().__init__()
        self.neuron = IF(threshold, reset="soft")
        self.shift = threshold / (2 * time_steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x + self.shift) * self.neuron.threshold


def convert(
    ann: nn.Module,
    x: np.ndarray,
    *,
    time_steps: int,
    percentile: float = 99.9,
    encoder: Encoder | None = None,
) -> SpikingNetwork:
    """Turn a trained network whose only non-linear layers are `torch.nn.ReLU` modules into a spiking one.

    :param ann: The trained network, such as `models.vgg11(spiking=False)`; it is not changed.
    :param x: Inputs `(N, *input_shape)` that set the thresholds, e.g. a few hundred training images.
    :param time_steps: Number of time steps T.
    :param percentile: Percentile of a rectifier's inputs that becomes its threshold, in (0, 100].
    :param encoder: How an input becomes frames; direct encoding when not given, event frames for a network over them.
    :return: The spiking network, in evaluation mode.
    :raises ValueError: If an argument is out of its range, or the network has no rectifier or another non-linear layer.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be in (0, 100], got {percentile!r}.")
    check_time_steps(time_steps)
    if len(x) == 0:
        raise ValueError("x must hold at least one input, got none.")
    rectifiers = [module for module in ann.modules() if isinstance(module, nn.ReLU)]
    if not rectifiers:
        raise ValueError("ann has no torch.nn.ReLU module that could become a spiking layer.")
    _check_affine(with_spikes(ann, [1.0] * len(rectifiers), time_steps, encoder), x[:1])
    return with_spikes(ann, thresholds(ann, rectifiers, x, percentile), time_steps, encoder)


def _check_affine(network: SpikingNetwork, x: np.ndarray) -> None:
    """A collapse over time is refused where anything but the neurons is not affine: just what conversion must know."""
    network.gradient_route = "collapsed"
    sample = torch.as_tensor(x, dtype=network.dtype, device=next(network.parameters()).device)
    try:
        network(sample.requires_grad_()).sum().backward()
    except ValueError as error:
        raise ValueError(f"ann must be affine but for its torch.nn.ReLU modules: {error}") from None


def thresholds(ann: nn.Module, rectifiers: list[nn.ReLU], x: np.ndarray, percentile: float) -> list[float]:
    """
    :param ann: The network.
    :param rectifiers: Its `torch.nn.ReLU` modules.
    :param x: Inputs `(N, *input_shape)`.
    :param percentile: In (0, 100].
    :return: A threshold for each rectifier: the percentile of its inputs, of the batch and the call where it is
        greatest.
    :raises ValueError: If one of them never gets a positive input.
    """
    seen: dict[nn.Module, float] = dict.fromkeys(rectifiers, 0.0)

    def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[module] = max(seen[module], float(np.percentile(args[0].cpu().numpy(), percentile)))

    parameter = next(ann.parameters())
    handles = [rectifier.register_forward_pre_hook(see) for rectifier in rectifiers]
    modes = [(module, module.training) for module in ann.modules()]
    try:
        ann.eval()
        with torch.no_grad():
            for start in range(0, len(x), BATCH):
                ann(torch.as_tensor(x[start : start + BATCH], dtype=parameter.dtype, device=parameter.device))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    dead = [index for index, rectifier in enumerate(rectifiers) if seen[rectifier] <= 0]
    if dead:
        raise ValueError(f"the torch.nn.ReLU modules {dead} of ann never get a positive input on x.")
    return [seen[rectifier] for rectifier in rectifiers]


def with_spikes(ann: nn.Module, levels: list[float], time_steps: int, encoder: Encoder | None = None) -> SpikingNetwork:
    """
    :param ann: The network.
    :param levels: A threshold for each of its `torch.nn.ReLU` modules.
    :param time_steps: Number of time steps T.
    :param encoder: How an input becomes frames.
    :return: A spiking copy, in evaluation mode.
    """
    architecture = getattr(ann, "architecture", None)
    body = copy.deepcopy(ann)
    remaining = iter(levels)
    twins = {
        module: ConvertedReLU(next(remaining), time_steps) for module in body.modules() if isinstance(module, nn.ReLU)
    }
    for module in list(body.modules()):
        for name, child in list(module._modules.items()):  # named_children leaves out a second name of the same one
            if child in twins:
                setattr(module, name, twins[child])
    if isinstance(body, OverFrames):
        body, encoder = body.body, encoder or EventFrames()
    network = SpikingNetwork(body, time_steps, encoder).eval()
    if architecture is not None:
        network.architecture = {
            "name": architecture["name"],
            "arguments": architecture["arguments"] | {"encoder": encoder},
            "converted": {"thresholds": levels, "time_steps": time_steps},
        }  # type: ignore[assignment]
    return network
