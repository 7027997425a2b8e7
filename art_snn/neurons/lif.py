"""Leaky integrate-and-fire neurons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.neurons.dynamics import RESETS, begin, charge, derivative, fire, follow, sensitivities, settle, simulate
from art_snn.neurons.layer import Between, SpikingLayer, Trace
from art_snn.neurons.values import Value, at, checked, shown, spanned, within

#: What neurons are set by, and may be a number, a tensor, or a parameter.
VALUES = ("decay", "threshold", "v_rest", "reset_by", "v_init", "scale")


class LIF(SpikingLayer):
    """Leaky integrate-and-fire neurons (Eqs. 1-4); input and output have the same shape.

    `decay`, `threshold`, `v_rest`, `reset_by`, `v_init` and `scale` may each be a number; a tensor, which becomes a
    buffer; or a `torch.nn.Parameter`, which STBP trains with the weights. A tensor without dimensions is for all
    neurons, one with a single dimension for each channel (the first dimension after the batch), one with as many
    dimensions as the neurons for each neuron, one with one more for each time step first (not `v_init`); in the last
    two a dimension of 1 stands for all. A subclass may also give any of them as a property that computes it from
    parameters.

    :param decay: Membrane factor λ, in (0, 1]; 1.0 is the IF neuron.
    :param threshold: Firing threshold θ, > 0.
    :param reset: `"hard"` (to `v_rest`), `"soft"` (subtract θ, or `reset_by`) or `"none"`.
    :param v_rest: Resting potential after a hard reset, < θ.
    :param strict: Fire where m > θ, not where m >= θ.
    :param reset_by: What a soft reset subtracts, where that is not θ.
    :param detach_reset: Hold the spike that resets constant in the derivative.
    :param v_init: Potential v(0) before the first step.
    :param scale: What a spike is worth: the layer's output is scale times s (graded spikes).
    :raises ValueError: If a parameter is out of its range.
    """

    decay: Value
    v_rest: Value
    v_init: Value
    reset_by: Value | None

    def __init__(
        self,
        decay: Value = 0.9,
        threshold: Value = 1.0,
        reset: str = "hard",
        v_rest: Value = 0.0,
        *,
        strict: bool = False,
        reset_by: Value | None = None,
        detach_reset: bool = False,
        v_init: Value = 0.0,
        scale: Value = 1.0,
    ) -> None:
        super().__init__()
        for name, flag in (("strict", strict), ("detach_reset", detach_reset)):
            if not isinstance(flag, bool):
                raise ValueError(f"{name} must be True or False, got {flag!r}.")
        if reset not in RESETS:
            raise ValueError(f"reset must be one of {RESETS}, got {reset!r}.")
        self.reset, self.strict, self.detach_reset = reset, strict, detach_reset
        given = (decay, threshold, v_rest, reset_by, v_init, scale)
        for name, value in zip(VALUES, given, strict=True):
            self._set(name, value)
        if not within(self._given("decay", 0.5), 0.0, 1.0):
            raise ValueError(f"decay must be in (0, 1], got {spanned(decay)}.")
        if not within(self._given("threshold", 1.0), 0.0, math.inf):
            raise ValueError(f"threshold must be > 0, got {spanned(threshold)}.")
        v_rest, threshold = self._given("v_rest", 0.0), self._given("threshold", math.inf)
        plain = not isinstance(v_rest, Tensor) and not isinstance(threshold, Tensor)
        if plain and v_rest >= threshold:
            raise ValueError(f"v_rest must be below the threshold {threshold!r}, got {v_rest!r}.")
        if reset != "hard" and (isinstance(v_rest, Tensor) or v_rest != 0.0):
            raise ValueError(f"v_rest belongs to the hard reset; with reset={reset!r} it must be 0.0, got {v_rest!r}.")
        if reset != "soft" and reset_by is not None:
            raise ValueError(f"reset_by belongs to the soft reset; with reset={reset!r} it must be None.")

    def _set(self, name: str, value: Value | None) -> None:
        if isinstance(getattr(type(self), name, None), property):
            return  # the subclass computes it
        if value is not None:
            value = checked(name, value)
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            self.register_buffer(name, value.clone())
        else:
            setattr(self, name, value)

    def _given(self, name: str, otherwise: float) -> Any:
        """A setting as it was given; what a subclass computes is not there yet."""
        return otherwise if isinstance(getattr(type(self), name, None), property) else getattr(self, name)

    def _dynamics(self, currents: Tensor) -> dict[str, Any]:
        """What the equations take, over the currents."""
        found: dict[str, Any] = {name: self.value(name, currents) for name in ("decay", "threshold", "v_rest")}
        by = None if self.reset_by is None else self.value("reset_by", currents)
        return found | {"reset": self.reset, "reset_by": by}

    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None, potentials: Tensor | None = None) -> Tensor:
        return simulate(
            currents,
            **self._dynamics(currents),
            strict=self.strict,
            v_init=self.value("v_init", currents, steps=False),
            spikes=spikes,
            potentials=potentials,
        )

    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        potentials = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        spikes = self.simulate(currents, spikes=spikes, potentials=potentials)
        return Trace(currents, potentials, spikes, self)

    def follow(self, currents: Tensor, spikes: Tensor) -> Tensor:
        """
        :param currents: Input currents `(T, B, ...)`; only read.
        :param spikes: Spikes 0 or 1, `(T, B, ...)`, whoever fired them; only read.
        :return: The potentials before them, m(t), `(T, B, ...)`.
        """
        v_init = self.value("v_init", currents, steps=False)
        return follow(currents, spikes, **self._dynamics(currents), v_init=v_init)

    @torch.no_grad()
    def begin(self, current: Tensor) -> Between:
        return begin(current, self.value("v_init", current.unsqueeze(0), steps=False)), 0

    @torch.no_grad()
    def step(self, current: Tensor, state: Between) -> tuple[Tensor, Between]:
        v, t = state
        now = self._dynamics(current.unsqueeze(0)[:0])
        m = charge(current, v, at(now["decay"], t))
        s = fire(m, at(now["threshold"], t), self.strict, torch.empty_like(m))
        amount = now["threshold"] if now["reset_by"] is None else now["reset_by"]
        return s, (settle(m, s, self.reset, at(now["v_rest"], t), at(amount, t)), t + 1)

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        return derivative(
            grad_spikes,
            slopes,
            trace.potentials,
            trace.spikes,
            **self._dynamics(trace.currents),
            detach_reset=self.detach_reset,
        )

    def derivatives(
        self, grad_spikes: Tensor, slopes: Tensor, trace: Trace, parameters: Sequence[nn.Parameter]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        grad_currents = self.derivative(grad_spikes, slopes, trace)
        with torch.enable_grad():
            values = self._dynamics(trace.currents)
            values["v_init"] = self.value("v_init", trace.currents, steps=False)
        found = sensitivities(
            grad_currents,
            grad_spikes,
            slopes,
            trace.potentials,
            trace.spikes,
            **values,
            detach_reset=self.detach_reset,
        )
        learned = {name: grad for name, grad in found.items() if values[name].requires_grad}
        if not learned or not parameters:
            return grad_currents, [None] * len(parameters)
        outputs = [values[name] for name in learned]
        return grad_currents, torch.autograd.grad(outputs, parameters, list(learned.values()), allow_unused=True)

    def extra_repr(self) -> str:
        usual: dict[str, Any] = {"strict": False, "reset_by": None, "detach_reset": False, "v_init": 0.0, "scale": 1.0}
        text = f"decay={shown(self.decay)}, threshold={shown(self.threshold)}, reset={self.reset!r}"
        text += f", v_rest={shown(self.v_rest)}"
        for name, value in usual.items():
            now = getattr(self, name)
            if isinstance(now, Tensor) or now != value:
                text += f", {name}={shown(now)}"
        return text


class IF(LIF):
    """Integrate-and-fire neurons: :class:`~art_snn.LIF` with `decay=1.0`.

    :param threshold: Firing threshold θ, > 0.
    :param reset: `"hard"` (to `v_rest`), `"soft"` (subtract θ) or `"none"`.
    :param v_rest: Resting potential after a hard reset, < θ.
    :param others: As for :class:`~art_snn.LIF`.
    """

    def __init__(self, threshold: Value = 1.0, reset: str = "hard", v_rest: Value = 0.0, **others: Any) -> None:
        super().__init__(1.0, threshold, reset, v_rest, **others)
