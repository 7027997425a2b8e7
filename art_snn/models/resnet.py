"""The paper's ResNet-17: residual blocks whose sum is what fires (Zheng et al., AAAI 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from art_snn.encoders import Encoder
from art_snn.models._common import check, finished, initialised, neurons, normalisation, recorded, scaled


class Block(nn.Module):
    """neuron(BN(conv(neuron(BN(conv(x))))) + shortcut(x)).

    :param channels: Channels of the input.
    :param wanted: Channels of the output.
    :param stride: Stride of the first convolution.
    :param first: Whether it is the first of its stage, with a 1 x 1 convolution and batch norm as shortcut.
    :param neuron: What makes a fresh spiking layer, or a rectifier.
    """

    def __init__(self, channels: int, wanted: int, stride: int, first: bool, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.straight = nn.Sequential(
            nn.Conv2d(channels, wanted, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
            neuron(),
            nn.Conv2d(wanted, wanted, 3, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
        )
        self.shortcut = (
            nn.Sequential(nn.Conv2d(channels, wanted, 1, stride, bias=False), nn.BatchNorm2d(wanted))
            if first
            else nn.Identity()
        )
        self.neuron = neuron()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.straight(x) + self.shortcut(x))


@recorded
def resnet17(
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
    """ResNet-17: 64; three blocks of 64 and four of 128, each stage with stride 2; pool; linear 256 with batch norm, K.

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
    narrow, wide, hidden = scaled(64, width), scaled(128, width), scaled(256, width)
    body = nn.Sequential(
        *normalisation(channels, mean, std),
        nn.Conv2d(channels, narrow, 3, padding=1, bias=False),
        nn.BatchNorm2d(narrow),
        neuron(),
        *_stage(narrow, narrow, 3, neuron),
        *_stage(narrow, wide, 4, neuron),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(wide * (height // 8) * (breadth // 8), hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.Linear(hidden, nb_classes),
    )
    return finished(initialised(body), spiking, time_steps, encoder)


def _stage(channels: int, wanted: int, blocks: int, neuron: Callable[[], nn.Module]) -> list[nn.Module]:
    first = Block(channels, wanted, 2, True, neuron)
    return [first, *(Block(wanted, wanted, 1, False, neuron) for _ in range(blocks - 1))]
