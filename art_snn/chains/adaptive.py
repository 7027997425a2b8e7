r"""Adaptive HART: HART's merged gradient, each surrogate as wide as the trace at hand says. Ours; no γ is searched.

With u = m - θ, both are HART (Eqs. 13, 14) with another ∂s/∂m, and so have a gain. For attacks in many steps, an arctangent for
each neuron of each sample,

.. math::

    \frac{∂s(t)}{∂m(t)} = \frac{α/2}{1 + (π α u(t) / 2)^2}, \qquad
    α = \frac{2 \tan(π \, level) / π}{\overline{|u|} + 10^{-4}}, \qquad \overline{|u|} = \frac1T \sum_t |u(t)|

and for one step, a triangle for all neurons of a layer, in each sample by itself,

.. math:: \frac{∂s(t)}{∂m(t)} = \frac{1}{γ^2} \max(γ - |u(t)|, 0), \qquad γ = \overline{|u|} \text{ over the layer and time}

Why: a step of an attack moves a potential by a share of how far it lies from its threshold. One fixed γ is too wide for
neurons that hover at the threshold, whose spikes are what a small step changes, and passes nothing on at neurons beyond it,
which a long attack has to move step by step. Measured by its own distance every neuron is heard: in proportion to 1 over the
distance on the whole (the arctangent's tails never end), and most at the steps at which it comes nearest. A single large step is
another matter: it goes past what lies near, so that what counts is the whole layer's scale, and a wide surrogate is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_snn.chains.assg import TINY, check_level, steepness
from art_snn.chains.base import BackwardChain
from art_snn.neurons import Trace
from art_snn.surrogates import arctangent


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

    :param level: Share, in (0, 0.5), that the surrogate's step comes to beyond its middle at the mean distance; larger is
        steeper.
    :raises ValueError: If it is out of its range.
    """

    level: float = 0.46

    def __post_init__(self) -> None:
        check_level(self.level, 0.0)

    def slopes(self, trace: Trace) -> Tensor:
        distance = trace.distance
        return arctangent(distance, steepness(self.level) / (distance.mean(0, keepdim=True) + TINY))


@dataclass(frozen=True)
class OneStepHART(_Merged):
    """HART with a triangle for each layer, as wide as its mean distance from the threshold: for one step (FGSM)."""

    def slopes(self, trace: Trace) -> Tensor:
        distance = trace.distance
        over = (0, *range(2, distance.dim()))
        gamma = distance.mean(over, keepdim=True) if len(over) > 1 else distance.mean(0, keepdim=True)
        gamma = torch.where(gamma > TINY, gamma, torch.ones_like(gamma))
        return (gamma - distance).clamp_(min=0.0).div_(gamma.square())
