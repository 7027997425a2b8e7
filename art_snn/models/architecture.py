"""From the layers of a network to the function that builds it: settings, checks, the twin without spikes, its record.

An architecture is one function that gives its layers; :func:`architecture` makes it the function that users call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol, TypedDict, cast, overload

from torch import Tensor, nn
from typing_extensions import Unpack

from art_snn.encoders import DirectEncoder, Encoder, EventFrames
from art_snn.keywords import Keyword, spelled_out
from art_snn.models.normalise import normalisation
from art_snn.network import SpikingNetwork
from art_snn.neurons import LIF

Shape = tuple[int, int, int]
#: From the channels, or hidden units, of the full network to those of one of another width.
Scaled = Callable[[int], int]
#: Makes a fresh spiking layer, or a rectifier.
Neuron = Callable[[], nn.Module]
#: From the shape `(C, H, W)` of a frame, the number of classes, and the two above.
Layers = Callable[[Shape, int, Scaled, Neuron], list[nn.Module]]


class Settings(TypedDict, total=False):
    """What every architecture can be built with."""

    time_steps: Annotated[int, Keyword(8, "Number of time steps T.")]
    decay: Annotated[float, Keyword(0.9, "Membrane factor λ of every spiking layer.")]
    threshold: Annotated[float, Keyword(1.0, "Firing threshold θ of every spiking layer.")]
    reset: Annotated[str, Keyword("hard", '`"hard"` or `"soft"`.')]
    width: Annotated[float, Keyword(1.0, "Factor on the channels and hidden units, > 0.")]
    mean: Annotated[
        Sequence[float] | float,
        Keyword(
            0.0,
            "Mean of the input by channel, or one number for all, which the first layer takes off; "
            ":func:`art_snn.models.channel_statistics` gives mean and deviation of any data.",
        ),
    ]
    std: Annotated[
        Sequence[float] | float,
        Keyword(1.0, "Standard deviation of the input by channel, or one number for all, by which it then divides."),
    ]
    encoder: Annotated[Encoder | None, Keyword(None, "How an input becomes frames.")]


class Architecture(Protocol):
    """What :func:`architecture` makes of layers, as type checkers see it."""

    __name__: str

    @overload
    def __call__(
        self,
        input_shape: Shape = ...,
        nb_classes: int = ...,
        *,
        spiking: Literal[True] = ...,
        **settings: Unpack[Settings],
    ) -> SpikingNetwork: ...

    @overload
    def __call__(
        self, input_shape: Shape = ..., nb_classes: int = ..., *, spiking: Literal[False], **settings: Unpack[Settings]
    ) -> nn.Module: ...

    @overload
    def __call__(
        self, input_shape: Shape = ..., nb_classes: int = ..., *, spiking: bool, **settings: Unpack[Settings]
    ) -> SpikingNetwork | nn.Module: ...


class OverFrames(nn.Module):
    """The mean over event frames `(B, T, P, H, W)` of what a network without spikes makes of each.

    :param body: From frames `(B, P, H, W)` to logits `(B, K)`.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


def architecture(
    input_shape: Shape, *, divisor: int, encoder: type[Encoder] = DirectEncoder, **changed: Any
) -> Callable[[Layers], Architecture]:
    """
    :param input_shape: Shape of a frame if none is given.
    :param divisor: What height and width must be divisible by.
    :param encoder: How an input becomes frames if nothing is said.
    :param changed: Defaults of :class:`Settings` that are others here.
    :return: The decorator of a function that gives layers. It makes the function of its name that builds the network,
        and notes name and arguments on the network, as `architecture`, for :func:`art_snn.models.save_network`.
    """
    words = f"How an input becomes frames; :class:`~art_snn.{encoder.__name__}` when not given."

    def decorate(layers: Layers) -> Architecture:
        def build(
            input_shape: Shape = input_shape,
            nb_classes: int = 10,
            *,
            spiking: bool = True,
            **settings: Unpack[Settings],
        ) -> SpikingNetwork | nn.Module:
            _check(input_shape, divisor, nb_classes, settings["width"])
            body = nn.Sequential(
                *normalisation(input_shape[0], settings["mean"], settings["std"]),
                *layers(input_shape, nb_classes, _scaled(settings["width"]), _neurons(spiking, settings)),
            )
            network = _finished(body, spiking, settings["time_steps"], settings["encoder"] or encoder())
            arguments = {"input_shape": input_shape, "nb_classes": nb_classes, **settings, "spiking": spiking}
            network.architecture = {"name": layers.__name__, "arguments": arguments}  # type: ignore[assignment]
            return network

        functools.update_wrapper(build, layers, ("__module__", "__name__", "__qualname__"))
        fields = f"""
        :param input_shape: Shape `(C, H, W)` of a frame, H and W divisible by {divisor}.
        :param nb_classes: Number of classes K.
        :param spiking: If False, the same shape with rectifiers, a `torch.nn.Module` for ART's `PyTorchClassifier`;
            over event frames its output is averaged.
        :param settings: Those of every architecture.
        :return: The network, a :class:`~art_snn.SpikingNetwork`, with fresh weights from torch's global random state.
        :raises ValueError: If an argument is out of its range.
        """
        build.__doc__ = f"{inspect.getdoc(layers)}\n\n{inspect.cleandoc(fields)}"
        return cast(Architecture, spelled_out(encoder=Keyword(None, words), **changed)(build))

    return decorate


def _scaled(width: float) -> Scaled:
    return lambda channels: max(1, round(channels * width))


def _neurons(spiking: bool, settings: Settings) -> Neuron:
    return (lambda: LIF(settings["decay"], settings["threshold"], settings["reset"])) if spiking else nn.ReLU


def _check(input_shape: Shape, divisor: int, nb_classes: int, width: float) -> None:
    if len(input_shape) != 3 or min(input_shape) < 1 or input_shape[1] % divisor or input_shape[2] % divisor:
        raise ValueError(f"input_shape must be (C, H, W) with H and W divisible by {divisor}, got {input_shape!r}.")
    if nb_classes < 2 or width <= 0:
        raise ValueError(f"nb_classes must be >= 2 and width > 0, got {nb_classes!r} and {width!r}.")


def _finished(body: nn.Module, spiking: bool, time_steps: int, encoder: Encoder) -> SpikingNetwork | nn.Module:
    if spiking:
        return SpikingNetwork(body, time_steps, encoder)
    return OverFrames(body) if isinstance(encoder, EventFrames) else body


def initialised(layers: list[nn.Module]) -> list[nn.Module]:
    """Weights after He et al. (2015), with which the currents of deep layers without batch norm still reach θ.

    :param layers: Their weights are drawn anew from torch's global random state.
    :return: They.
    """
    for module in nn.Sequential(*layers).modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return layers
