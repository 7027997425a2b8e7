r"""Spiking neurons (Eqs. 1-4 of Hao et al., ICLR 2024).

For a layer with input current x(t) = W s(t), threshold θ and membrane factor λ, and v(0) = 0:

.. math::

    m(t) &= λ v(t-1) + x(t)                                     && (1) \\
    s(t) &= 1 \text{ if } m(t) ≥ θ \text{ else } 0              && (4) \\
    v(t) &= m(t) - η(t) s(t),\quad
    η(t) = m(t) - v_{rest} \text{ (hard reset)}, \; θ \text{ (soft reset)}   && (2, 3)

Nothing here knows about attacks. A spiking layer hands its current to whatever *visits* it: the engine in
:mod:`art_snn.engine` decides whether to simulate, to record, or to multiply by a gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

RESETS = ("hard", "soft")


@torch.no_grad()
def simulate(
    currents: Tensor,
    *,
    decay: float,
    threshold: float,
    reset: str,
    v_rest: float,
    spikes: Tensor | None = None,
    potentials: Tensor | None = None,
) -> Tensor:
    """Run Eqs. 1-4 over all time steps, without an autograd graph.

    :param currents: Input currents x(t), shape `(T, B, ...)`. Only read.
    :param decay: Membrane factor λ.
    :param threshold: Firing threshold θ.
    :param reset: `"hard"` or `"soft"`.
    :param v_rest: Resting potential of the hard reset.
    :param spikes: Where to write s(t), shape `(T, B, ...)`; allocated when not given.
    :param potentials: Where to write m(t), shape `(T, B, ...)`; not kept when not given.
    :return: Spikes s(t), 0 or 1, shape `(T, B, ...)`.
    """
    if spikes is None:
        spikes = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
    v = torch.zeros_like(currents[0], memory_format=torch.contiguous_format)
    last = len(currents) - 1
    for t, current in enumerate(currents):
        m = v if potentials is None else potentials[t]
        torch.add(current, v, alpha=decay, out=m)  # Eq. 1
        s = torch.ge(m, threshold, out=spikes[t])  # Eq. 4
        if t == last:
            break
        if reset == "soft":
            torch.sub(m, s, alpha=threshold, out=v)  # Eqs. 2, 3
        else:
            torch.addcmul(m, m, s, value=-1, out=v)
            if v_rest:
                v.add_(s, alpha=v_rest)
    return spikes


@torch.no_grad()
def derivative(
    grad_spikes: Tensor,
    slopes: Tensor,
    potentials: Tensor,
    spikes: Tensor,
    *,
    decay: float,
    threshold: float,
    reset: str,
    v_rest: float,
) -> Tensor:
    r"""The derivative of Eqs. 1-4, backwards in time, given σ(t) = ∂s(t)/∂m(t).

    With G(t) the gradient at m(t) and g(t) that at s(t), for t = T, ..., 1:

    .. math::

        G(t) = g(t) σ(t) + λ G(t+1) \frac{∂v(t)}{∂m(t)}, \qquad
        \frac{∂v(t)}{∂m(t)} = \begin{cases}
            1 - s(t) - (m(t) - v_{rest}) σ(t) & \text{hard reset} \\ 1 - θ σ(t) & \text{soft reset}
        \end{cases}

    The reset is not detached. x(t) enters m(t) with factor 1, so G(t) is the gradient at the currents.

    :param grad_spikes: Gradient at the spikes g(t), shape `(T, B, ...)`. Only read.
    :param slopes: σ(t), shape `(T, B, ...)`. Only read.
    :param potentials: m(t), shape `(T, B, ...)`.
    :param spikes: s(t), shape `(T, B, ...)`.
    :param decay: Membrane factor λ.
    :param threshold: Firing threshold θ.
    :param reset: `"hard"` or `"soft"`.
    :param v_rest: Resting potential of the hard reset.
    :return: Gradient at the currents `(T, B, ...)`.
    """
    # With a = λ G(t+1): hard reset G = σ (g - a (m - v_rest)) + a (1 - s), soft reset G = σ (g - θ a) + a.
    grad_currents = torch.empty_like(potentials)
    last = len(grad_spikes) - 1
    torch.mul(grad_spikes[last], slopes[last], out=grad_currents[last])
    for t in range(last - 1, -1, -1):
        G, a = grad_currents[t], grad_currents[t + 1] * decay
        if reset == "soft":
            torch.sub(grad_spikes[t], a, alpha=threshold, out=G).mul_(slopes[t]).add_(a)
        else:
            m, s = potentials[t], spikes[t]
            height = m - v_rest if v_rest else m
            torch.addcmul(grad_spikes[t], a, height, value=-1, out=G).mul_(slopes[t]).add_(a)
            G.addcmul_(a, s, value=-1)
    return grad_currents


class NotGiven(ValueError):
    """A chain needs what a neuron does not give; the message names both."""


#: What a chain keeps of a layer from gradient to gradient: tensors `(T, B, ...)` or `(1, B, ...)`.
State = tuple[Tensor, ...]


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

    @property
    def threshold(self) -> float:
        """Firing threshold θ of the neuron; :class:`NotGiven` if it names none."""
        return self._of_neuron("threshold", "a firing threshold")

    @property
    def decay(self) -> float:
        """Membrane factor λ of the neuron; :class:`NotGiven` if its membrane does not decay by one."""
        return self._of_neuron("decay", "a membrane factor")

    def derivative(self, grad_spikes: Tensor, slopes: Tensor) -> Tensor:
        """The neuron's own derivative of its dynamics, see :meth:`SpikingLayer.derivative`.

        :param grad_spikes: Gradient at the spikes `(T, B, ...)`.
        :param slopes: Derivative of a spike by its potential, ∂s(t)/∂m(t), `(T, B, ...)`.
        :return: Gradient at the currents `(T, B, ...)`.
        """
        return self.neuron.derivative(grad_spikes, slopes, self)

    def _of_neuron(self, name: str, what: str) -> float:
        try:
            return getattr(self.neuron, name)
        except AttributeError:
            raise NotGiven(f"{type(self.neuron).__name__} has no attribute {name!r}, {what}") from None


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
    threshold: float

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

    def begin(self, current: Tensor) -> State:
        """
        :param current: An input current `(B, ...)`; only its shape, type and device count.
        :return: The state before the first step.
        """
        raise NotGiven(f"{type(self).__name__} does not run one step at a time")

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of :meth:`simulate`, for networks that loop over time themselves.

        :param current: Input current x(t) `(B, ...)`; only read.
        :param state: The state after the step before; only read.
        :return: Spikes s(t) `(B, ...)`, without a graph, and the state after the step.
        """
        raise NotGiven(f"{type(self).__name__} does not run one step at a time")

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        """The derivative of the dynamics, back-propagated through time.

        :param grad_spikes: Gradient at the spikes `(T, B, ...)`; only read.
        :param slopes: Derivative of a spike by its potential, ∂s(t)/∂m(t), `(T, B, ...)`; only read.
        :param trace: What the forward pass left of this layer.
        :return: Gradient at the currents `(T, B, ...)`.
        :raises NotGiven: If the layer does not know it.
        """
        raise NotGiven(f"{type(self).__name__} does not give the derivative of its dynamics")

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


class Dynamics(SpikingLayer):
    """Neurons given by two equations, from which simulation, trace and derivative follow.

    A subclass sets `threshold` and writes :meth:`charge` and :meth:`settle` in operations that torch can differentiate.
    A spike is fired where m(t) ≥ θ, and v(0) = 0.
    """

    def charge(self, v: Tensor, current: Tensor) -> Tensor:
        """
        :param v: Membrane potential after the step before, v(t-1), `(B, ...)`.
        :param current: Input current x(t), `(B, ...)`.
        :return: Membrane potential before the spike, m(t), `(B, ...)`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no charge(v, current)")

    def settle(self, m: Tensor, spike: Tensor) -> Tensor:
        """
        :param m: Membrane potential before the spike, m(t), `(B, ...)`.
        :param spike: s(t), 0 or 1, `(B, ...)`.
        :return: Membrane potential after the reset, v(t), `(B, ...)`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no settle(m, spike)")

    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None) -> Tensor:
        return self.trace(currents, spikes=spikes).spikes

    @torch.no_grad()
    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        if spikes is None:
            spikes = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        potentials = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        v = torch.zeros_like(currents[0])
        for t, current in enumerate(currents):
            m = self.charge(v, current)
            potentials[t], spikes[t] = m, m >= self.threshold
            v = self.settle(m, spikes[t].clone())  # which may work in place
        return Trace(currents, potentials, spikes, self)

    def begin(self, current: Tensor) -> State:
        return (torch.zeros_like(current),)

    @torch.no_grad()
    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        m = self.charge(state[0].clone(), current)
        spikes = (m >= self.threshold).to(current.dtype)
        return spikes, (self.settle(m.clone(), spikes.clone()),)

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        grad_currents = torch.empty_like(grad_spikes)
        onward = torch.zeros_like(grad_spikes[0])  # gradient at v(t), from the steps after t
        for t in range(len(grad_spikes) - 1, -1, -1):
            below = torch.zeros_like(trace.potentials[0])
            if t:
                with torch.no_grad():
                    below = self.settle(trace.potentials[t - 1].clone(), trace.spikes[t - 1].clone())
            v, current, m, s = (
                value.detach().clone().requires_grad_()
                for value in (below, trace.currents[t], trace.potentials[t], trace.spikes[t])
            )
            with torch.enable_grad():
                charged, settled = self.charge(v.clone(), current.clone()), self.settle(m.clone(), s.clone())
            at_m, at_s = torch.autograd.grad(settled, (m, s), onward, allow_unused=True, materialize_grads=True)
            at_m = at_m + (grad_spikes[t] + at_s) * slopes[t]
            onward, grad_currents[t] = torch.autograd.grad(
                charged, (v, current), at_m, allow_unused=True, materialize_grads=True
            )
        return grad_currents


class LIF(SpikingLayer):
    """Leaky integrate-and-fire neurons (Eqs. 1-4); input and output have the same shape.

    :param decay: Membrane factor λ, in (0, 1]; 1.0 is the IF neuron.
    :param threshold: Firing threshold θ, > 0.
    :param reset: `"hard"` (to `v_rest`) or `"soft"` (subtract θ).
    :param v_rest: Resting potential after a hard reset, < θ; v(0) = 0 always.
    :raises ValueError: If a parameter is out of its range.
    """

    def __init__(self, decay: float = 0.9, threshold: float = 1.0, reset: str = "hard", v_rest: float = 0.0) -> None:
        super().__init__()
        self.decay = _number("decay", decay)
        self.threshold = _number("threshold", threshold)
        self.v_rest = _number("v_rest", v_rest)
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"decay must be in (0, 1], got {decay!r}.")
        if self.threshold <= 0.0:
            raise ValueError(f"threshold must be > 0, got {threshold!r}.")
        if reset not in RESETS:
            raise ValueError(f"reset must be one of {RESETS}, got {reset!r}.")
        if self.v_rest >= self.threshold:
            raise ValueError(f"v_rest must be below the threshold {threshold!r}, got {v_rest!r}.")
        if reset == "soft" and self.v_rest != 0.0:
            raise ValueError(f"v_rest belongs to the hard reset; with reset='soft' it must be 0.0, got {v_rest!r}.")
        self.reset = reset

    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None, potentials: Tensor | None = None) -> Tensor:
        return simulate(
            currents,
            decay=self.decay,
            threshold=self.threshold,
            reset=self.reset,
            v_rest=self.v_rest,
            spikes=spikes,
            potentials=potentials,
        )

    def begin(self, current: Tensor) -> State:
        return (torch.zeros_like(current),)

    @torch.no_grad()
    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        m = torch.add(current, state[0], alpha=self.decay)
        spikes = (m >= self.threshold).to(m.dtype)
        if self.reset == "soft":
            return spikes, (torch.sub(m, spikes, alpha=self.threshold),)
        v = torch.addcmul(m, m, spikes, value=-1)
        return spikes, (v.add_(spikes, alpha=self.v_rest) if self.v_rest else v,)

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        return derivative(
            grad_spikes,
            slopes,
            trace.potentials,
            trace.spikes,
            decay=self.decay,
            threshold=self.threshold,
            reset=self.reset,
            v_rest=self.v_rest,
        )

    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        potentials = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        spikes = self.simulate(currents, spikes=spikes, potentials=potentials)
        return Trace(currents, potentials, spikes, self)

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}, reset={self.reset!r}, v_rest={self.v_rest}"


class IF(LIF):
    """Integrate-and-fire neurons: :class:`LIF` with `decay=1.0`.

    :param threshold: Firing threshold θ, > 0.
    :param reset: `"hard"` (to `v_rest`) or `"soft"` (subtract θ).
    :param v_rest: Resting potential after a hard reset, < θ.
    """

    def __init__(self, threshold: float = 1.0, reset: str = "hard", v_rest: float = 0.0) -> None:
        super().__init__(decay=1.0, threshold=threshold, reset=reset, v_rest=v_rest)


def _number(name: str, value: float) -> float:
    """A finite float, or an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)
