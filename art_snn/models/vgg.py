"""The paper's VGG networks: 3 x 3 convolutions with batch norm, average pooling (Hao et al., ICLR 2024, Section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from art_snn.encoders import Encoder, EventFrames
from art_snn.models._common import check, finished, initialised, neurons, normalisation, recorded, scaled

POOL = 0


@recorded
def vgg11(
    input_shape: tuple[int, int, int] = (3, 32, 32),
    nb_classes: int = 10,
    *,
    time_steps: int = 8,
    decay: float = 0.9,
    threshold: float = 1.0,
    reset: str = "hard",
    width: float = 1.0,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
    encoder: Encoder | None = None,
    spiking: bool = True,
) -> Any:
    """VGG-11: 64, pool, 128, 256, pool, 512, 512, 512, pool, 512, 512; linear 4096, 4096, K.

    :param input_shape: Shape `(C, H, W)` of a frame, H and W divisible by 8.
    :param nb_classes: Number of classes K.
    :param time_steps: Number of time steps T.
    :param decay: Membrane factor λ of every spiking layer.
    :param threshold: Firing threshold θ of every spiking layer.
    :param reset: `"hard"` or `"soft"`.
    :param width: Factor on the channels and hidden units.
    :param mean: Mean of the input by channel, or one number for all, which the first layer takes off;
        :func:`art_snn.models.channel_statistics` gives mean and deviation of any data.
    :param std: Standard deviation of the input by channel, or one number for all, by which it then divides.
    :param encoder: How an input becomes frames; direct encoding when not given.
    :param spiking: If False, the same shape with rectifiers, a `torch.nn.Module` for ART's `PyTorchClassifier`.
    :return: The network, a :class:`~art_snn.SpikingNetwork`, with fresh weights from torch's global random state.
    :raises ValueError: If an argument is out of its range.
    """
    check(input_shape, 8, nb_classes, width)
    neuron = neurons(spiking, decay, threshold, reset)
    channels, height, breadth = input_shape
    hidden = scaled(4096, width)
    body = nn.Sequential(
        *normalisation(channels, mean, std),
        *_convolutions(channels, (64, POOL, 128, 256, POOL, 512, 512, 512, POOL, 512, 512), width, neuron),
        nn.Flatten(),
        nn.Linear(scaled(512, width) * (height // 8) * (breadth // 8), hidden),
        neuron(),
        nn.Linear(hidden, hidden),
        neuron(),
        nn.Linear(hidden, nb_classes),
    )
    return finished(initialised(body), spiking, time_steps, encoder)


@recorded
def vgg_dvs(
    input_shape: tuple[int, int, int] = (2, 48, 48),
    nb_classes: int = 10,
    *,
    time_steps: int = 10,
    decay: float = 0.9,
    threshold: float = 1.0,
    reset: str = "hard",
    width: float = 1.0,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
    encoder: Encoder | None = None,
    spiking: bool = True,
) -> Any:
    """VGG-DVS: 64, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512, pool; linear K. For event frames.

    :param input_shape: Shape `(P, H, W)` of a frame, H and W divisible by 16.
    :param nb_classes: Number of classes K.
    :param time_steps: Number of time steps T, as many as a recording has frames.
    :param decay: Membrane factor λ of every spiking layer.
    :param threshold: Firing threshold θ of every spiking layer.
    :param reset: `"hard"` or `"soft"`.
    :param width: Factor on the channels.
    :param mean: Mean of the input by channel, or one number for all, which the first layer takes off;
        :func:`art_snn.models.channel_statistics` gives mean and deviation of any data.
    :param std: Standard deviation of the input by channel, e.g. in counts, or one number for all, by which it then
        divides.
    :param encoder: How an input becomes frames; event frames when not given.
    :param spiking: If False, the same shape with rectifiers, whose output is averaged over the frames.
    :return: The network, a :class:`~art_snn.SpikingNetwork`, with fresh weights from torch's global random state.
    :raises ValueError: If an argument is out of its range.
    """
    check(input_shape, 16, nb_classes, width)
    channels, height, breadth = input_shape
    layers = (64, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL)
    body = nn.Sequential(
        *normalisation(channels, mean, std),
        *_convolutions(channels, layers, width, neurons(spiking, decay, threshold, reset)),
        nn.Flatten(),
        nn.Linear(scaled(512, width) * (height // 16) * (breadth // 16), nb_classes),
    )
    return finished(initialised(body), spiking, time_steps, encoder or EventFrames())


def _convolutions(
    channels: int, layers: Sequence[int], width: float, neuron: Callable[[], nn.Module]
) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for layer in layers:
        if layer == POOL:
            modules.append(nn.AvgPool2d(2))
            continue
        wanted = scaled(layer, width)
        modules += [nn.Conv2d(channels, wanted, 3, padding=1, bias=False), nn.BatchNorm2d(wanted), neuron()]
        channels = wanted
    return modules
