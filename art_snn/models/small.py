"""A small convolutional spiking network, for small images such as the embedded digits."""

from __future__ import annotations

from torch import nn

from art_snn.models.architecture import Neuron, Scaled, Shape, architecture


@architecture((1, 8, 8), divisor=4)
def small_cnn(input_shape: Shape, nb_classes: int, scaled: Scaled, neuron: Neuron) -> list[nn.Module]:
    """Two convolutions and two linear layers: 16, pool, 32, pool; linear 64, K; average pooling."""
    channels, height, breadth = input_shape
    few = scaled(16)
    return [
        nn.Conv2d(channels, few, 3, padding=1, bias=False),
        nn.BatchNorm2d(few),
        neuron(),
        nn.AvgPool2d(2),
        nn.Conv2d(few, 2 * few, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * few),
        neuron(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * few * (height // 4) * (breadth // 4), 4 * few),
        neuron(),
        nn.Linear(4 * few, nb_classes),
    ]
