"""What type checkers make of the public names: mypy reads this file, nothing runs it."""

from __future__ import annotations

import numpy as np
from torch import nn
from typing_extensions import assert_type

from art_snn import SpikingNetwork, datasets, models


def networks(spiking: bool, x: np.ndarray) -> None:
    assert_type(models.vgg11(), SpikingNetwork)
    assert_type(models.vgg11().time_steps, int)
    assert_type(models.small_cnn((1, 8, 8), 10, time_steps=4, width=0.5, mean=(0.5,), spiking=True), SpikingNetwork)
    assert_type(models.resnet17(spiking=False), nn.Module)
    assert_type(models.vgg_dvs(spiking=spiking), SpikingNetwork | nn.Module)
    assert_type(models.load_network("run/network"), SpikingNetwork | nn.Module)
    assert_type(models.convert(models.vgg11(spiking=False), x, time_steps=8), SpikingNetwork)
    models.vgg11(heigth=3)  # type: ignore[call-overload]
    models.vgg11(time_steps="many")  # type: ignore[call-overload]


def data() -> None:
    (x, y), _, low, _ = datasets.nmnist("root", time_steps=4, bins="time", limit=100)
    assert_type(x, np.ndarray)
    assert_type(y, np.ndarray)
    assert_type(low, float)
    assert_type(datasets.cifar10("root", download=True), datasets.Dataset)
    datasets.cifar10("root", downlaod=True)  # type: ignore[call-arg]
    datasets.dvsgesture("root", bins="counts")  # type: ignore[arg-type]
