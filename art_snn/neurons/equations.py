"""Neurons of one's own, given by their equations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from art_snn.neurons.dynamics import begin, fire
from art_snn.neurons.layer import Between, SpikingLayer, Trace
from art_snn.neurons.values import Value, at


class Dynamics(SpikingLayer):
    """Neurons given by two equations, from which simulation, trace and derivative follow.

    A subclass sets `threshold` and writes :meth:`charge` and :meth:`settle` in operations that torch can differentiate.
    A spike is fired where m(t) ≥ θ, or > θ if it sets `strict = True`, and v(0) = 0, or `v_init` if it sets one. What
    they use may be parameters, or computed from some: STBP trains them.
    """

    strict = False

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

    @torch.no_grad()
    def begin(self, current: Tensor) -> Between:
        return begin(current, self._at_rest(current.unsqueeze(0))), 0

    @torch.no_grad()
    def step(self, current: Tensor, state: Between) -> tuple[Tensor, Between]:
        v, t = state
        threshold = self.value("threshold", current.unsqueeze(0)[:0])
        _, spikes, v = self._advance(current, v.clone(), at(threshold, t))
        return spikes, (v, t + 1)

    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None) -> Tensor:
        return self.trace(currents, spikes=spikes).spikes

    @torch.no_grad()
    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        if spikes is None:
            spikes = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        potentials = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
        v, threshold = begin(currents[0], self._at_rest(currents)), self.value("threshold", currents)
        for t, current in enumerate(currents):
            potentials[t], spikes[t], v = self._advance(current, v, at(threshold, t))
        return Trace(currents, potentials, spikes, self)

    def _advance(self, current: Tensor, v: Tensor, threshold: Value) -> tuple[Tensor, Tensor, Tensor]:
        """m(t), s(t) and v(t); the equations may work in place."""
        m = self.charge(v, current)
        kept, s = m.clone(), fire(m, threshold, self.strict, torch.empty_like(current))
        return kept, s, self.settle(m, s.clone())

    def _at_rest(self, currents: Tensor) -> Value:
        return self.value("v_init", currents, steps=False) if hasattr(self, "v_init") else 0.0

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        return self.derivatives(grad_spikes, slopes, trace, ())[0]

    def derivatives(
        self, grad_spikes: Tensor, slopes: Tensor, trace: Trace, parameters: Sequence[nn.Parameter]
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        with torch.enable_grad():
            threshold, at_rest = self.value("threshold", trace.currents), self._at_rest(trace.currents)
        grad_currents, learned = torch.empty_like(grad_spikes), _Learned(parameters)
        onward = torch.zeros_like(grad_spikes[0])  # gradient at v(t), from the steps after t
        for t in range(len(grad_spikes) - 1, -1, -1):
            with torch.no_grad():
                below = begin(trace.currents[0], at_rest)
                if t:
                    below = self.settle(trace.potentials[t - 1].clone(), trace.spikes[t - 1].clone())
            v, current, m, s = (
                value.detach().clone().requires_grad_()
                for value in (below, trace.currents[t], trace.potentials[t], trace.spikes[t])
            )
            with torch.enable_grad():
                charged, settled = self.charge(v.clone(), current.clone()), self.settle(m.clone(), s.clone())
            at_m, at_s = learned.back(settled, (m, s), onward)
            at_u = (grad_spikes[t] + at_s) * slopes[t]  # u = m - θ, of which the spike is a function
            with torch.enable_grad():
                learned.add(at(threshold, t), -at_u)
            onward, grad_currents[t] = learned.back(charged, (v, current), at_m + at_u)
        with torch.enable_grad():
            learned.add(at(at_rest, 0), onward)
        return grad_currents, learned.grads


class _Learned:
    """The gradients at some parameters, as they add up."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.grads: list[Tensor | None] = [None] * len(self.parameters)

    def back(self, output: Tensor, inputs: tuple[Tensor, ...], grad: Tensor) -> Sequence[Tensor]:
        """The gradient at some inputs of an output; that at the parameters is added."""
        ends = (*inputs, *self.parameters)
        found: Sequence[Tensor | None] = [None] * len(ends)
        if output.requires_grad:
            found = torch.autograd.grad(output, ends, grad, retain_graph=True, allow_unused=True)
        self.grads = [
            old if new is None else new if old is None else old + new
            for old, new in zip(self.grads, found[len(inputs) :], strict=True)
        ]
        pairs = zip(inputs, found, strict=False)
        return [torch.zeros_like(one) if new is None else new for one, new in pairs]

    def add(self, value: Value, grad: Tensor) -> None:
        """Add the gradient by way of a value that broadcasts."""
        if self.parameters and isinstance(value, Tensor) and value.requires_grad:
            self.back(value, (), grad.sum_to_size(value.shape))
