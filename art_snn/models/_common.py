"""What the architectures share: the switch between spikes and rectifiers, input normalisation, their own record."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from art_snn.encoders import Encoder, EventFrames
from art_snn.network import SpikingNetwork
from art_snn.neurons import LIF
from art_snn.normalise import Normalise

#: Mean and standard deviation of CIFAR-10's training images, on [0, 1], by channel: what networks of three channels
#: were normalised by in files that give none.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

Builder = TypeVar("Builder", bound=Callable[..., Any])


class OverFrames(nn.Module):
    """The mean over event frames `(B, T, P, H, W)` of what a network without spikes makes of each.

    :param body: From frames `(B, P, H, W)` to logits `(B, K)`.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


def recorded(builder: Builder) -> Builder:
    """Have a builder note its name and arguments on the network, as `architecture`, for :func:`art_snn.models.save`.

    :param builder: A function that returns a network.
    """
    signature = inspect.signature(builder)

    @functools.wraps(builder)
    def build(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        network = builder(*args, **kwargs)
        network.architecture = {"name": builder.__name__, "arguments": dict(arguments.arguments)}
        return network

    return build  # type: ignore[return-value]


def scaled(channels: int, width: float) -> int:
    """
    :param channels: Channels of the full network.
    :param width: Factor, > 0.
    :return: Channels of the scaled one, at least 1.
    """
    return max(1, round(channels * width))


def neurons(spiking: bool, decay: float, threshold: float, reset: str) -> Callable[[], nn.Module]:
    """
    :param spiking: Whether the network spikes.
    :return: What makes a fresh spiking layer, or a rectifier.
    """
    return (lambda: LIF(decay, threshold, reset)) if spiking else nn.ReLU


def normalisation(channels: int, mean: Sequence[float] | float, std: Sequence[float] | float) -> list[nn.Module]:
    """
    :param channels: Channels C of the input.
    :param mean: One number a channel, or one for all.
    :param std: One number a channel, or one for all; above 0.
    :return: A normalising layer, or nothing for the plain numbers 0 and 1.
    :raises ValueError: If they do not fit.
    """
    if isinstance(mean, Real) and mean == 0 and isinstance(std, Real) and std == 1:
        return []
    try:
        means, stds = (np.asarray(given, dtype=np.float32) for given in (mean, std))
    except (TypeError, ValueError):
        means = stds = np.array([np.nan])
    fits = all(given.shape in ((), (channels,)) for given in (means, stds))
    if not fits or not np.isfinite(means).all() or not (np.isfinite(stds).all() and (stds > 0).all()):
        raise ValueError(f"mean and std must have {channels} numbers, or one, std above 0, got {mean!r} and {std!r}.")
    return [Normalise(*(np.broadcast_to(given, channels).tolist() for given in (means, stds)))]


def normalised_before(arguments: dict[str, Any]) -> dict[str, Any]:
    """
    :param arguments: A builder's, from a file; where it is an early one, `mean` or `std` may be None.
    :return: They, with what that meant then.
    """
    colour = arguments["input_shape"][0] == 3
    meant = {"mean": CIFAR_MEAN if colour else 0.0, "std": CIFAR_STD if colour else 1.0}
    return {name: meant[name] if name in meant and value is None else value for name, value in arguments.items()}


def check(input_shape: tuple[int, ...], divisor: int, nb_classes: int, width: float) -> None:
    """
    :raises ValueError: If the shape, the number of classes or the width is out of its range.
    """
    if len(input_shape) != 3 or min(input_shape) < 1 or input_shape[1] % divisor or input_shape[2] % divisor:
        raise ValueError(f"input_shape must be (C, H, W) with H and W divisible by {divisor}, got {input_shape!r}.")
    if nb_classes < 2 or width <= 0:
        raise ValueError(f"nb_classes must be >= 2 and width > 0, got {nb_classes!r} and {width!r}.")


def initialised(body: nn.Module) -> nn.Module:
    """Weights after He et al. (2015), with which the currents of deep layers without batch norm still reach θ.

    :param body: The layers, whose weights are drawn anew from torch's global random state.
    :return: They.
    """
    for module in body.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return body


def finished(body: nn.Module, spiking: bool, time_steps: int, encoder: Encoder | None) -> Any:
    """
    :param body: The layers.
    :param spiking: Whether they spike.
    :return: A :class:`~art_snn.SpikingNetwork`; without spikes the layers themselves, over event frames their mean.
    """
    if spiking:
        return SpikingNetwork(body, time_steps, encoder)
    return OverFrames(body) if isinstance(encoder, EventFrames) else body
