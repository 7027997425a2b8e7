"""What the engine asks of a network, and what it keeps of it between gradients.

The engine differentiates a *problem*: something that runs all T steps of encoded frames, or one step at batch B, and
has spiking layers inside. It knows neither what encodes the input nor who attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from art_snn.chains import BackwardChain
from art_snn.engine.layout import Layout
from art_snn.health import GradientHealth
from art_snn.neurons import SpikingLayer, Visitor
from art_snn.randomness import Randomness

Modes = tuple[tuple[int, bool], ...]
Pullback = Callable[[Tensor], Tensor]


class Route(NamedTuple):
    """How a gradient was taken, and why."""

    name: str
    reason: str


class Refusal(NamedTuple):
    """Why body or chain cannot be collapsed over time, and whether that may have been so once only."""

    reason: str
    may_try_again: bool


@dataclass
class Shared:
    """Chains whose gradients at one input come out of one simulation.

    :param chains: The chains.
    :param x: The input.
    :param state: The network's then, see :func:`art_snn.engine.isolate.state`.
    :param made: What came out, see :class:`art_snn.engine.route.Linear`.
    """

    chains: tuple[BackwardChain, ...]
    x: Tensor | None = None
    state: Any = None
    made: Any = None


@dataclass
class Seen:
    """What the engine saw of a problem.

    :param route: How the last gradient was taken, and why; None before the first.
    :param health: How many samples the last gradient could move; None before the first.
    :param warned: Whether it was said that some cannot be moved.
    :param said: Refusals that were said.
    :param refusals: Refusals by the modes of the layers, of the body or of a chain.
    :param gradients: How many gradients of a kind there were, see :mod:`art_snn.engine.compare`.
    :param shown: Kinds of which a comparison of layers and chains showed something.
    :param footprints: Activation memory by the shape of the frames, see :mod:`art_snn.engine.chunk`.
    :param weights: Versions of the weights when they were last looked at.
    :param shared: Chains that share a simulation now.
    """

    route: Route | None = None
    health: GradientHealth | None = None
    warned: bool = False
    said: set[str] = field(default_factory=set)
    refusals: dict[Any, Refusal] = field(default_factory=dict)
    gradients: dict[Any, int] = field(default_factory=dict)
    shown: set[Any] = field(default_factory=set)
    footprints: dict[Any, tuple[int, int]] = field(default_factory=dict)
    weights: tuple[tuple[int, int], ...] = ()
    shared: Shared | None = None


def named(problem: Problem, layer: SpikingLayer) -> str:
    """
    :param problem: The network, as the engine sees it.
    :param layer: One of its spiking layers.
    :return: Its name there.
    """
    names = (f"body.{name}" for name, module in problem.body.named_modules() if module is layer.module)
    return next(names, type(layer.module).__name__)


class Problem(Protocol):
    """A network, as the engine sees it."""

    #: Holds the spiking layers; its weights, buffers and modes stay as they were.
    body: nn.Module
    #: Bound on activation memory, in bytes.
    memory_bound: int
    #: Generators for what the body draws at random.
    randomness: Randomness
    #: What the engine saw.
    seen: Seen
    #: Whether it goes through its time steps itself, so that it may have none alone.
    steps_inside: bool

    @property
    def layout(self) -> Layout:
        """Where it keeps time."""

    @property
    def gradient_route(self) -> str:
        """`"auto"`, or the route that is forced: `"collapsed"` or `"step-by-step"`."""

    def frames(self, x: Tensor) -> Tensor:
        """
        :param x: Input `(B, ...)`.
        :return: Encoded frames `(T, B, ...)`, differentiable in `x`.
        """

    def run(self, frames: Tensor, visitor: Visitor) -> Tensor:
        """
        :param frames: Frames `(T, B, ...)`.
        :param visitor: What happens at the spiking layers; where they run step by step, its `begin_step()` is called
            before each step.
        :return: Logits `(B, K)` of all T steps.
        """

    def native(self, frames: Tensor) -> Tensor:
        """
        :param frames: Frames `(T, B, ...)`.
        :return: Logits `(B, K)` of all T steps, differentiable by the network's own autograd.
        :raises ValueError: If it has none.
        """

    def once(self, frame: Tensor, visitor: Visitor) -> Tensor:
        """
        :param frame: One frame `(B, ...)`.
        :param visitor: What happens at the spiking layers.
        :return: The body's output of this step alone, at batch size B.
        """
