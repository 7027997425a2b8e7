"""A small convolutional spiking network, for small images such as the embedded digits."""

from __future__ import annotations

from typing import Any

from torch import nn

from art_snn.encoders import Encoder
from art_snn.models._common import check, finished, neurons, recorded


@recorded
def small_cnn(
    input_shape: tuple[int, int, int] = (1, 8, 8),
    nb_classes: int = 10,
    *,
    time_steps: int = 8,
    decay: float = 0.9,
    threshold: float = 1.0,
    reset: str = "hard",
    width: int = 16,
    encoder: Encoder | None = None,
    spiking: bool = True,
) -> Any:
    """Two convolutions and two linear layers: `width`, pool, `2 width`, pool, `4 width`, K; average pooling.

    :param input_shape: Shape `(C, H, W)` of a frame; H and W divisible by 4.
    :param nb_classes: Number of classes K.
    :param time_steps: Number of time steps T.
    :param decay: Membrane factor λ of every spiking layer.
    :param threshold: Firing threshold θ of every spiking layer.
    :param reset: `"hard"` or `"soft"`.
    :param width: Channels of the first convolution.
    :param encoder: How an input becomes frames; direct encoding when not given.
    :param spiking: If False, the same shape with rectifiers, a `torch.nn.Module` for ART's `PyTorchClassifier`.
    :return: The network, a :class:`~art_snn.SpikingNetwork`, with fresh weights from torch's global random state.
    :raises ValueError: If an argument is out of its range.
    """
    check(input_shape, 4, nb_classes, width)
    neuron = neurons(spiking, decay, threshold, reset)
    channels, height, breadth = input_shape
    body = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        neuron(),
        nn.AvgPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        neuron(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (breadth // 4), 4 * width),
        neuron(),
        nn.Linear(4 * width, nb_classes),
    )
    return finished(body, spiking, time_steps, encoder)
