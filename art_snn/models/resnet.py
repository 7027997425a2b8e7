"""The paper's ResNet-17: residual blocks whose sum is what fires (Zheng et al., AAAI 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from art_snn.models.architecture import Neuron, Scaled, Shape, architecture, initialised


class Block(nn.Module):
    """neuron(BN(conv(neuron(BN(conv(x))))) + shortcut(x)).

    :param channels: Channels of the input.
    :param wanted: Channels of the output.
    :param stride: Stride of the first convolution.
    :param first: Whether it is the first of its stage, with a 1 x 1 convolution and batch norm as shortcut.
    :param neuron: What makes a fresh spiking layer, or a rectifier.
    """

    def __init__(self, channels: int, wanted: int, stride: int, first: bool, neuron: Neuron) -> None:
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


@architecture((3, 32, 32), divisor=8)
def resnet17(input_shape: Shape, nb_classes: int, scaled: Scaled, neuron: Neuron) -> list[nn.Module]:
    """ResNet-17: 64; three blocks of 64, four of 128, each stage with stride 2; pool; linear 256 with batch norm, K."""
    channels, height, breadth = input_shape
    narrow, wide, hidden = scaled(64), scaled(128), scaled(256)
    layers = [
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
    ]
    return initialised(layers)


def _stage(channels: int, wanted: int, blocks: int, neuron: Neuron) -> list[nn.Module]:
    first = Block(channels, wanted, 2, True, neuron)
    return [first, *(Block(wanted, wanted, 1, False, neuron) for _ in range(blocks - 1))]
