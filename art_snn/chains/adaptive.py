r"""Adaptive HART: HART's merged gradient with surrogates whose width is not searched. Ours.

All are HART (Eqs. 13, 14) with another ∂s/∂m, and so have a gain. With u = m - θ, the first two have an arctangent,

.. math:: \frac{∂s(t)}{∂m(t)} = \frac{α/2}{1 + (π α u(t) / 2)^2},

for attacks in many steps as steep as each neuron's own distance says, in each sample by itself,

.. math:: α = \frac{2 \tan(π \, level) / π}{\overline{|u|} + 10^{-4}}, \qquad \overline{|u|} = \frac1T \sum_t |u(t)|,

for attacks in few steps steeper from step to step, at the gradients k = 0, 1, ... of one attack

.. math:: \frac1α = θ \, start \left( \frac{end}{start} \right)^{\min(k / steps, 1)}

and for one step it is Eq. 15 with one width for all neurons of a layer, in each sample by itself,

.. math:: γ = \overline{|u|} \text{ over the layer and time.}

Why: a surrogate's width says how far a potential is expected to be moved. A first, large step moves most potentials,
past those that lie near, so that a width of the whole layer's scale is right; towards the end an attack moves little,
and only spikes near their threshold can still change, which a narrow surrogate finds. A fixed γ is one of the two. In a
long attack most time is spent at the end, and a narrow triangle passes nothing on at the neurons beyond it: measured by
its own mean distance every neuron is heard, and most at the time steps at which it comes nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_snn.chains.assg import TINY, check_level, steepness
from art_snn.chains.base import BackwardChain, per_sample
from art_snn.neurons import State, Trace
from art_snn.surrogates import arctangent, positive, triangle


class _Merged(BackwardChain):
    """HART with slopes that a trace gives."""

    def slopes(self, trace: Trace) -> Tensor:
        """
        :param trace: What the forward pass left of the layer.
        :return: ∂s/∂m, `(T, B, ...)`.
        """
        raise NotImplementedError

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        return (grad_spikes * self.slopes(trace)).mean(0).expand_as(grad_spikes)

    def gain(self, trace: Trace) -> Tensor:
        return self.slopes(trace).mean(0)


@dataclass(frozen=True)
class AdaptiveHART(_Merged):
    """HART with an arctangent for each neuron, as steep as its mean distance from the threshold says: for many steps.

    :param level: Share, in (0, 0.5), that the surrogate's step comes to beyond its middle at the mean distance; larger
        is steeper.
    :raises ValueError: If it is out of its range.
    """

    level: float = 0.46

    def __post_init__(self) -> None:
        check_level(self.level, 0.0)

    def slopes(self, trace: Trace) -> Tensor:
        distance = trace.distance
        return arctangent(distance, steepness(self.level) / (distance.mean(0, keepdim=True) + TINY))


@dataclass(frozen=True)
class AnnealedHART(_Merged):
    """HART with an arctangent that gets steeper over the gradients of one attack, see `run`: for few steps.

    Outside of a run every gradient is the first of one, and so has the width `start`.

    :param steps: After how many gradients it is as steep as it gets, a whole number >= 1: those of the attack.
    :param start: Width 1/α at the first gradient, > 0, in units of the threshold.
    :param end: Width at the last, > 0, in units of the threshold.
    :raises ValueError: If a parameter is out of its range.
    """

    steps: int = 20
    start: float = 0.5
    end: float = 0.03

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a whole number >= 1, got {self.steps!r}.")
        positive("start", self.start)
        positive("end", self.end)

    def init(self, trace: Trace) -> State:
        return (trace.distance.new_full((1, trace.distance.shape[1]), -1.0),)

    def update(self, state: State, trace: Trace) -> State:
        return (state[0] + 1.0,)

    def slopes(self, trace: Trace) -> Tensor:
        (number,) = trace.state
        width = self.start * (self.end / self.start) ** (number / self.steps).clamp(max=1.0)
        return arctangent(trace.distance, 1.0 / (trace.threshold * per_sample(width, trace.distance)))


@dataclass(frozen=True)
class OneStepHART(_Merged):
    """HART with a triangle for each layer, as wide as its mean distance from the threshold: for one step (FGSM)."""

    def slopes(self, trace: Trace) -> Tensor:
        distance = trace.distance
        over = (0, *range(2, distance.dim()))
        gamma = distance.mean(over, keepdim=True)
        gamma = torch.where(gamma > TINY, gamma, torch.ones_like(gamma))
        return triangle(distance, gamma)
