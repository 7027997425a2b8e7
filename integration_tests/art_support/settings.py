"""The networks that are attacked: a spiking one and, beside each, a plain one of the same shape.

The plain network is the spiking one's body with a ReLU in the place of every spiking layer. It says whether what
fails on a spiking network fails in ART itself.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_snn import LIF, EventFrames, PyTorchSNNClassifier, SpikingNetwork, datasets, models
from art_snn.chains import HART
from art_snn.classifier import Softmax
from art_snn.models.architecture import OverFrames
from art_snn.neurons import SpikingLayer

CLASSES = 10
torch.set_num_threads(1)  # the networks are tiny: more threads are slower, and sums would round by their number


class ChannelsFirst(nn.Module):
    """Images `(B, H, W, C)` for layers that want `(B, C, H, W)`."""

    def forward(self, x):
        return x.permute(0, 3, 1, 2)


def plain(network: SpikingNetwork) -> nn.Module:
    """A fresh network of the same shape, with rectifiers for neurons."""

    def convert(module: nn.Module) -> nn.Module:
        if isinstance(module, SpikingLayer):
            return nn.ReLU()
        for name, child in module.named_children():
            setattr(module, name, convert(child))
        return module

    body = convert(copy.deepcopy(network.body))
    return OverFrames(body) if isinstance(network.encoder, EventFrames) else body


@dataclass(frozen=True)
class Setting:
    """Trained classifiers and the data they were trained on."""

    spiking: PyTorchSNNClassifier
    plain: PyTorchClassifier
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def samples(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Test samples that both networks classify correctly."""
        labels = self.y_test.argmax(1)
        right = (self.spiking.predict(self.x_test).argmax(1) == labels) & (
            self.plain.predict(self.x_test).argmax(1) == labels
        )
        chosen = np.flatnonzero(right)[:number]
        return self.x_test[chosen].copy(), self.y_test[chosen].copy()


def seeded(seed: int = 0) -> None:
    """Attacks draw from all three global generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def classifier(
    network: SpikingNetwork | nn.Module, input_shape: tuple[int, ...], high: float = 1.0, **kwargs
) -> PyTorchClassifier:
    """An untrained classifier around a network, spiking or plain."""
    kind = PyTorchSNNClassifier if isinstance(network, SpikingNetwork) else PyTorchClassifier
    return kind(
        network,
        nn.CrossEntropyLoss(),
        input_shape,
        CLASSES,
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-2),
        clip_values=(0.0, high),
        device_type="cpu",
        **kwargs,
    )


def trained(network: SpikingNetwork, data: datasets.Dataset, *, epochs: int, **kwargs) -> Setting:
    (x_train, y_train), (x_test, y_test), _, high = data
    pair = []
    for one in (network, plain(network)):
        made = classifier(one, x_train.shape[1:], high, **kwargs)
        seeded()
        made.fit(x_train, y_train, batch_size=64, nb_epochs=epochs)
        one.eval()
        pair.append(made)
    pair[0].chain = HART(1.5)
    return Setting(pair[0], pair[1], x_train, y_train, x_test, y_test)


def flattened(data, shape: tuple[int, ...]):
    (x_train, y_train), (x_test, y_test), low, high = data
    return (x_train.reshape(-1, *shape), y_train), (x_test.reshape(-1, *shape), y_test), low, high


def coloured(limit: int, *, last: bool = False):
    """Digits as colour images of 32 x 32 pixels, the size that some of ART's attacks are written for."""
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0, limit=limit)
    colour = np.array([0.9, 0.6, 0.3], np.float32)[:, None, None]

    def grown(x: np.ndarray) -> np.ndarray:
        x = x.repeat(4, 2).repeat(4, 3) * colour
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x

    return (grown(x_train), y_train), (grown(x_test), y_test), low, high


def linear(inputs: int, time_steps: int) -> SpikingNetwork:
    return SpikingNetwork(nn.Sequential(nn.Linear(inputs, 64), LIF(), nn.Linear(64, CLASSES)), time_steps)


@cache
def setting(name: str) -> Setting:
    """Train a setting's networks, once.

    :param name: `digits`: images (1, 8, 8). `probabilities`: the same classifiers with a softmax after them.
        `colour`: images (3, 32, 32). `channels last`: images (32, 32, 3). `features`: vectors of 64 numbers.
        `events`: recordings of a simulated event camera, (T, P, H, W).
    :return: The setting.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "digits":
            return trained(models.small_cnn(time_steps=8), datasets.digits(seed=0), epochs=15)
        if name == "probabilities":
            basis = setting("digits")
            pair = [
                classifier(one.model, one.input_shape, postprocessing_defences=Softmax())
                for one in (basis.spiking, basis.plain)
            ]
            return Setting(pair[0], pair[1], basis.x_train, basis.y_train, basis.x_test, basis.y_test)
        if name == "colour":
            network = models.small_cnn((3, 32, 32), time_steps=4, width=0.25)
            return trained(network, coloured(300), epochs=12)
        if name == "channels last":
            network = models.small_cnn((3, 32, 32), time_steps=4, width=0.25)
            network = SpikingNetwork(nn.Sequential(ChannelsFirst(), *network.body), 4)
            return trained(network, coloured(300, last=True), epochs=12, channels_first=False)
        if name == "features":
            return trained(linear(64, 8), flattened(datasets.digits(seed=0), (64,)), epochs=15)
        if name == "events":
            network = models.small_cnn((2, 12, 12), time_steps=6, width=0.5, encoder=EventFrames())
            data = datasets.event_digits(time_steps=6, size=(12, 12), limit=400, seed=0)
            return trained(network, data, epochs=12)
    raise ValueError(f"there is no setting {name!r}")
