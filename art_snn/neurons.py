r"""Spiking neurons (Eqs. 1-4 of Hao et al., ICLR 2024).

For a layer with input current x(t) = W s(t), threshold θ and membrane factor λ, and v(0) = 0:

.. math::

    m(t) &= λ v(t-1) + x(t)                                     && (1) \\
    s(t) &= 1 \text{ if } m(t) ≥ θ \text{ else } 0              && (4) \\
    v(t) &= m(t) - η(t) s(t),\quad
    η(t) = m(t) - v_{rest} \text{ (hard reset)}, \; θ \text{ (soft reset)}   && (2, 3)

Nothing here knows about attacks. A spiking layer hands its current to whatever *visits* it: the engine in
:mod:`art_snn.gradients` decides whether to simulate, to record, or to multiply by a gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Trace:
    """What a forward pass leaves of one spiking layer: all that a backward chain may look at.

    :param currents: Input currents x(t), shape `(T, B, ...)`.
    :param potentials: Membrane potentials before the spike, m(t), shape `(T, B, ...)`.
    :param spikes: Spikes s(t), 0 or 1, shape `(T, B, ...)`.
    :param decay: Membrane factor λ.
    :param threshold: Firing threshold θ.
    :param reset: `"hard"` or `"soft"`.
    :param v_rest: Resting potential of the hard reset.
    """

    currents: Tensor
    potentials: Tensor
    spikes: Tensor
    decay: float
    threshold: float
    reset: str
    v_rest: float

    @property
    def mean_current(self) -> Tensor:
        """Mean input current over time, W r of the layer below, shape `(B, ...)`."""
        return self.currents.mean(0)

    @property
    def rate(self) -> Tensor:
        """Firing rate r(T), shape `(B, ...)`."""
        return self.spikes.mean(0)


# The engine's view of a spiking layer: it gets the layer and its input `(T*B, ...)` or, where the input does not
# change over time, `(B, ...)`, and returns what the layers above shall see.
Visitor = Callable[["SpikingLayer", Tensor], Tensor]
_visitor: ContextVar[Visitor] = ContextVar("art_snn_visitor")


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


class SpikingLayer(nn.Module):
    """A layer of spiking neurons, as the engine and the chains know it.

    Subclass it to bring other neurons: `simulate` runs the dynamics, `trace` records them.
    """

    #: Firing threshold θ, which scales the currents for CBA.
    threshold: float

    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None) -> Tensor:
        """
        :param currents: Input currents `(T, B, ...)`; only read.
        :param spikes: Where to write the result; allocated when not given.
        :return: Spikes `(T, B, ...)`, without a graph.
        """
        raise NotImplementedError

    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        """
        :param currents: Input currents `(T, B, ...)`; only read.
        :param spikes: Where to write the spikes; allocated when not given.
        :return: The trace of the simulation, without a graph.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        try:
            visitor = _visitor.get()
        except LookupError:
            raise RuntimeError(
                f"{type(self).__name__} runs only inside a SpikingNetwork, which knows the number of time steps: "
                "call SpikingNetwork(body, time_steps=...), not the body."
            ) from None
        return visitor(self, x)


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

    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        potentials = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        spikes = self.simulate(currents, spikes=spikes, potentials=potentials)
        return Trace(currents, potentials, spikes, self.decay, self.threshold, self.reset, self.v_rest)

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
