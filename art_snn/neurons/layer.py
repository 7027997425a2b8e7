"""A spiking layer, what a forward pass leaves of it, and how the engine visits it.

Nothing here knows about attacks. A spiking layer hands its current to whatever *visits* it: the engine in
:mod:`art_snn.engine` decides whether to simulate, to record, or to multiply by a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from art_snn.neurons.values import Value, at, spread

#: What a chain keeps of a layer from gradient to gradient: tensors `(T, B, ...)` or `(1, B, ...)`.
State = tuple[Tensor, ...]
#: What a layer is in between two steps: v(t), and the number of steps that it ran.
Between = tuple[Tensor, int]


#: A slope of a spike that is nearly 0: a power of two, by which nothing is rounded.
HELD = 2.0**-60


class NotGiven(ValueError):
    """A chain needs what a neuron does not give; the message names both."""


class NoGain(Exception):
    """On these neurons a chain's factor is not the same at every time step.

    :param reason: Why.
    :param chain: The chain, where it is known.
    """

    def __init__(self, reason: str, chain: object = None) -> None:
        super().__init__(reason)
        self.chain = chain


@dataclass(frozen=True)
class Trace:
    """What a forward pass leaves of one spiking layer: all that a backward chain may look at.

    :param currents: Input currents x(t), shape `(T, B, ...)`.
    :param potentials: Membrane potentials before the spike, m(t), shape `(T, B, ...)`.
    :param spikes: Spikes s(t), 0 or 1, shape `(T, B, ...)`.
    :param neuron: The layer that they are of.
    :param state: What the chain keeps of the layer, if it is one with state.
    """

    currents: Tensor
    potentials: Tensor
    spikes: Tensor
    neuron: SpikingLayer
    state: State = ()

    @property
    def mean_current(self) -> Tensor:
        """Mean input current over time, W r of the layer below, shape `(B, ...)`."""
        return self.currents.mean(0)

    @property
    def rate(self) -> Tensor:
        """Firing rate r(T), shape `(B, ...)`."""
        return self.spikes.mean(0)

    @cached_property
    def distance(self) -> Tensor:
        """How far the potentials are from the threshold, |m(t) - θ|, shape `(T, B, ...)`; once for all chains. Only
        read.
        """
        return (self.potentials - self.threshold).abs_()

    @property
    def threshold(self) -> Value:
        """Firing threshold θ of the neuron: a number, or a tensor that broadcasts against `(T, B, ...)`, its first
        dimension 1 where it is the same at every step; :class:`NotGiven` if it names none.
        """
        return self._of_neuron("threshold", "a firing threshold")

    @property
    def decay(self) -> Value:
        """Membrane factor λ of the neuron, likewise; :class:`NotGiven` if its membrane does not decay by one."""
        return self._of_neuron("decay", "a membrane factor")

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, *, detach_reset: bool = False) -> Tensor:
        """The neuron's own derivative of its dynamics, see :meth:`SpikingLayer.derivative`.

        :param grad_spikes: Gradient at the spikes `(T, B, ...)`.
        :param slopes: Derivative of a spike by its potential, ∂s(t)/∂m(t), `(T, B, ...)`.
        :param detach_reset: Hold the spike that resets constant, whatever the neurons do.
        :return: Gradient at the currents `(T, B, ...)`.
        :raises NotGiven: If the reset cannot be held constant in numbers as small as these.
        """
        if detach_reset and not getattr(self.neuron, "detach_reset", False):
            if torch.finfo(slopes.dtype).tiny > HELD**2:
                raise NotGiven(
                    f"a reset is held constant in float32 and float64, and {slopes.dtype} has no such numbers"
                )
            # The derivative knows spikes by their slope alone: with one of nearly 0, and gradients as much larger, what
            # crosses the spike is as it was, and what comes back through the reset is not there.
            grad_spikes, slopes = grad_spikes * slopes / HELD, slopes.new_full((), HELD).expand_as(slopes)
        return self._derivative(grad_spikes, slopes)

    def _derivative(self, grad_spikes: Tensor, slopes: Tensor) -> Tensor:
        return self.neuron.derivative(grad_spikes, slopes, self)

    def _of_neuron(self, name: str, what: str) -> Value:
        if not hasattr(self.neuron, name):
            raise NotGiven(f"{type(self.neuron).__name__} has no attribute {name!r}, {what}")
        return self.neuron.value(name, self.currents)


# The engine's view of a spiking layer: it gets the layer and its input `(T*B, ...)` or, where the input does not
# change over time, `(B, ...)`, and returns what the layers above shall see.
Visitor = Callable[["SpikingLayer", Tensor], Tensor]
_visitor: ContextVar[Visitor | None] = ContextVar("art_snn_visitor", default=None)


@contextmanager
def visiting(visitor: Visitor) -> Iterator[None]:
    """Have every spiking layer that runs inside the block hand its input to `visitor`.

    Parts of the body that were given to `torch.compile` run eagerly meanwhile: what watches the body must see its
    operations, and a compiled backward pass runs only once.
    """
    token = _visitor.set(visitor)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        _visitor.reset(token)


#: Visitors whose graphs are still there, by layer, for parts of a body that run once more in a backward pass.
_recomputing: WeakKeyDictionary[SpikingLayer, WeakSet[Recomputing]] = WeakKeyDictionary()


class Recomputing:
    """A visitor that gradient checkpointing may need again, in whichever thread runs the backward pass."""

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        raise NotImplementedError

    def same(self, other: Recomputing) -> bool:
        """
        :param other: Another.
        :return: Whether a layer would give the same under it.
        """
        raise NotImplementedError

    def fits(self, x: Tensor) -> bool:
        """
        :param x: Input of a layer.
        :return: Whether it may be this visitor's.
        """
        raise NotImplementedError


def recomputing(layer: SpikingLayer, visitor: Recomputing) -> None:
    """Let gradient checkpointing run a layer again in the backward pass.

    :param layer: The layer.
    :param visitor: What its input is to be handed to then, as long as its graph is there.
    """
    _recomputing.setdefault(layer, WeakSet()).add(visitor)


def _revisiting(layer: SpikingLayer, x: Tensor) -> Visitor:
    """The visitor under which a layer ran in the forward pass whose backward pass is under way."""
    name = type(layer).__name__
    found = [visitor for visitor in _recomputing.get(layer, ()) if visitor.fits(x)]
    if not found:
        raise RuntimeError(f"{name} runs again in a backward pass: gradient checkpointing needs use_reentrant=False.")
    if not all(found[0].same(other) for other in found):
        raise RuntimeError(
            f"{name} runs again in a backward pass (gradient checkpointing), and more than one forward pass waits for "
            "its own, with different chains or numbers of time steps: go back through one before the next begins."
        )
    return found[0]


class SpikingLayer(nn.Module):
    """A layer of spiking neurons, as the engine and the chains know it: it owns its dynamics and their derivative.

    To bring other neurons, subclass :class:`Dynamics`, which needs their equations only; or this class, to say in one
    go how all time steps run. What a layer says of itself is compared with what it does.
    """

    #: Firing threshold θ, at which surrogate gradients are centred and in units of which CBA and RGA take currents.
    #: Like all that neurons are set by it is a number; or a tensor or parameter without dimensions, over channels,
    #: neurons, or time steps and neurons; or a property that computes one from parameters.
    threshold: Value
    #: Spikes are s(t) times this at the layer's output (graded spikes); 1 where a layer does not say.
    scale: Value
    #: Whether it fires above θ only, not at it; not compared where a layer does not say.
    strict: bool

    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None) -> Tensor:
        """
        :param currents: Input currents `(T, B, ...)`; only read.
        :param spikes: Where the result may be written, to save memory; what is returned counts.
        :return: Spikes `(T, B, ...)`, without a graph.
        """
        raise NotImplementedError

    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        """
        :param currents: Input currents `(T, B, ...)`; only read.
        :param spikes: Where the spikes may be written, to save memory; what is returned counts.
        :return: The trace of the simulation, without a graph.
        """
        raise NotImplementedError

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        """The derivative of the dynamics, back-propagated through time.

        :param grad_spikes: Gradient at the spikes `(T, B, ...)`; only read.
        :param slopes: Derivative of a spike by its potential, ∂s(t)/∂m(t), `(T, B, ...)`; only read.
        :param trace: What the forward pass left of this layer.
        :return: Gradient at the currents `(T, B, ...)`.
        :raises NotGiven: If the layer does not know it.
        """
        raise NotGiven(f"{type(self).__name__} does not give the derivative of its dynamics")

    def derivatives(
        self, grad_spikes: Tensor, slopes: Tensor, trace: Trace, parameters: Sequence[nn.Parameter]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        """:meth:`derivative`, and that by the layer's own parameters.

        :param grad_spikes: Gradient at the spikes `(T, B, ...)`; only read.
        :param slopes: Derivative of a spike by its potential, ∂s(t)/∂m(t), `(T, B, ...)`; only read. A spike depends on
            m(t) - θ, so that its derivative by θ is the negative of that.
        :param trace: What the forward pass left of this layer.
        :param parameters: Parameters of this layer.
        :return: Gradient at the currents `(T, B, ...)`, and at each parameter, summed over the batch; None for one on
            which potentials and spikes do not depend, such as `scale`.
        :raises NotGiven: If the layer does not know it.
        """
        raise NotGiven(f"{type(self).__name__} does not give the derivative by its own parameters")

    def begin(self, current: Tensor) -> Between:
        """
        :param current: An input current `(B, ...)`; its shape and type count.
        :return: The state before the first step.
        :raises NotGiven: If the layer runs all time steps in one go only.
        """
        raise NotGiven(f"{type(self).__name__} does not run one step at a time")

    def step(self, current: Tensor, state: Between) -> tuple[Tensor, Between]:
        """Run one step; all of them are :meth:`simulate`.

        :param current: Input current x(t), `(B, ...)`; only read.
        :param state: What :meth:`begin` or the step before gave.
        :return: Spikes s(t) `(B, ...)`, without a graph, and the state after it.
        :raises NotGiven: If the layer runs all time steps in one go only.
        """
        raise NotGiven(f"{type(self).__name__} does not run one step at a time")

    def value(self, name: str, currents: Tensor, *, steps: bool = True) -> Value:
        """
        :param name: What the neurons are set by: `threshold`, `decay`, `scale` ...
        :param currents: Currents `(T, B, ...)`; their shape and type count.
        :param steps: Whether it may change with the time step.
        :return: A number, or a tensor that broadcasts against them, see :func:`~art_snn.neurons.values.spread`.
        :raises ValueError: If it is of a shape that does not fit.
        """
        return spread(type(self).__name__, name, getattr(self, name), currents.shape, currents.dtype, steps)

    @property
    def module(self) -> nn.Module:
        """The module of the network that this is, or stands for."""
        return self

    @property
    def described(self) -> SpikingLayer:
        """The neurons that its traces are of: itself, unless it stands for neurons of another library."""
        return self

    def weighted(self, inputs: Tensor, gain: bool = False) -> Tensor:
        """
        :param inputs: Inputs `(T, B, ...)`, or a gradient at the currents.
        :param gain: Whether it is a gain instead, `(B, ...)`.
        :return: The currents: what they add to a potential; or the gradient, or gain, at the inputs.
        :raises NoGain: If that changes with the time step, and a gain is wanted.
        """
        return inputs

    def compare(self, inputs: Tensor) -> None:
        """Compare what stands for neurons of another library with what they do.

        :param inputs: Inputs `(T, B, ...)` of a sample or a few.
        :raises ValueError: If they do something else.
        """

    def graded(self, spikes: Tensor, step: int | None = None) -> Tensor:
        """
        :param spikes: Spikes `(T, B, ...)`, or a gradient at them.
        :param step: At which step they are, from 0, if it is one only.
        :return: The layer's output: them times `scale`.
        """
        if not hasattr(self, "scale"):
            return spikes
        scale = self.value("scale", spikes if step is None else spikes[:0])
        if step is not None:
            scale = at(scale, step)
        return spikes if not isinstance(scale, Tensor) and scale == 1.0 else spikes * scale

    def forward(self, x: Tensor) -> Tensor:
        visitor = _visitor.get(None)
        if visitor is None and torch._C._current_graph_task_id() != -1:  # a backward pass is under way
            visitor = _revisiting(self, x)
        if visitor is None:
            raise RuntimeError(
                f"{type(self).__name__} runs only inside a SpikingNetwork, which knows the number of time steps: "
                "call SpikingNetwork(body, time_steps=...), not the body."
            )
        return visitor(self, x)
