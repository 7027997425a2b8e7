"""The paper's VGG networks: 3 x 3 convolutions with batch norm, average pooling (Hao et al., ICLR 2024, Section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from art_snn.encoders import EventFrames
from art_snn.models.architecture import Neuron, Scaled, Shape, architecture, initialised

POOL = 0


@architecture((3, 32, 32), divisor=8)
def vgg11(input_shape: Shape, nb_classes: int, scaled: Scaled, neuron: Neuron) -> list[nn.Module]:
    """VGG-11: 64, pool, 128, 256, pool, 512, 512, 512, pool, 512, 512; linear 4096, 4096, K."""
    channels, height, breadth = input_shape
    hidden = scaled(4096)
    layers = [
        *_convolutions(channels, (64, POOL, 128, 256, POOL, 512, 512, 512, POOL, 512, 512), scaled, neuron),
        nn.Flatten(),
        nn.Linear(scaled(512) * (height // 8) * (breadth // 8), hidden),
        neuron(),
        nn.Linear(hidden, hidden),
        neuron(),
        nn.Linear(hidden, nb_classes),
    ]
    return initialised(layers)


@architecture((2, 48, 48), divisor=16, time_steps=10, encoder=EventFrames)
def vgg_dvs(input_shape: Shape, nb_classes: int, scaled: Scaled, neuron: Neuron) -> list[nn.Module]:
    """VGG-DVS: 64, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512, pool; linear K. For event frames."""
    polarities, height, breadth = input_shape
    layers = [
        *_convolutions(polarities, (64, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL), scaled, neuron),
        nn.Flatten(),
        nn.Linear(scaled(512) * (height // 16) * (breadth // 16), nb_classes),
    ]
    return initialised(layers)


def _convolutions(channels: int, layers: Sequence[int], scaled: Scaled, neuron: Neuron) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for layer in layers:
        if layer == POOL:
            modules.append(nn.AvgPool2d(2))
            continue
        wanted = scaled(layer)
        modules += [nn.Conv2d(channels, wanted, 3, padding=1, bias=False), nn.BatchNorm2d(wanted), neuron()]
        channels = wanted
    return modules
