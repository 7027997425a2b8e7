r"""ASSG: adaptive sharpness surrogate gradient (arXiv 2512.22522).

Back-propagation through time, the reset held constant, with an arctangent whose steepness each neuron and step adapts
over the gradients of one attack. With u = m - θ, at the k-th of them:

.. math::

    M_k &= β M_{k-1} + (1 - β) |u|, \qquad D_k = β D_{k-1} + (1 - β) \, \bigl| |u| - M_k \bigr| \\
    \frac{∂s}{∂m} &= \frac{α/2}{1 + (π α u / 2)^2}, \qquad α = \frac{a}{M_k + ρ D_k + 10^{-4}}, \quad
    a = \frac{2}{π} \tan(π \, level)

from M = 1, D = 0. At a neuron whose distance is M + ρD the surrogate's own step, 1/2 + arctan(π α u / 2) / π, has come
to a share `level` beyond its middle: a smaller level is a wider surrogate.

M = 1 says how far potentials lie from their threshold before anything was seen, so that it means something only beside
the neuron's scale: where thresholds and potentials are of the order 0.1, M begins ten times too large, and of the first
gradients the surrogates are too wide; after k gradients a share β^k of it is left (0.35 at k = 10). With
`corrected=True` both means begin at 0 and are divided by 1 - β^k, so that there is no start value, and the scale of a
neuron does not matter (but for the 1e-4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_snn.chains.base import BackwardChain, per_sample
from art_snn.neurons import State, Trace
from art_snn.surrogates import arctangent, positive

#: What keeps α finite where a potential lies at its threshold.
TINY = 1e-4


@dataclass(frozen=True)
class ASSG(BackwardChain):
    """Back-propagation through time with arctangents that adapt over the gradients of one attack, see `run`.

    :param level: Share, in (0, 0.5), that the surrogate's step comes to beyond its middle at the distance M + spread D.
    :param spread: How many mean deviations D are added to the mean distance M, at least 0.
    :param momentum: β of the running means, in [0, 1).
    :param corrected: Means without a start value, divided by 1 - β^k, instead of M = 1 and D = 0.
    :raises ValueError: If a parameter is out of its range.
    """

    level: float = 0.425
    spread: float = 1.5
    momentum: float = 0.9
    corrected: bool = False

    def __post_init__(self) -> None:
        check_level(self.level, self.spread)
        keep = self.momentum
        if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0.0 <= keep < 1.0:
            raise ValueError(f"momentum must be a number in [0, 1), got {keep!r}.")
        if not isinstance(self.corrected, bool):
            raise ValueError(f"corrected must be True or False, got {self.corrected!r}.")

    def init(self, trace: Trace) -> State:
        mean = torch.zeros_like(trace.distance) if self.corrected else torch.ones_like(trace.distance)
        return mean, torch.zeros_like(mean), mean.new_zeros(1, mean.shape[1])  # the last becomes 1 - β^k

    def update(self, state: State, trace: Trace) -> State:
        mean, deviation, share = state
        keep = self.momentum
        share = keep * share + (1 - keep)
        mean = torch.lerp(trace.distance, mean, keep)
        known = mean / per_sample(share, mean) if self.corrected else mean
        return mean, torch.lerp((trace.distance - known).abs_(), deviation, keep), share

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        mean, deviation, share = trace.state
        reach = mean + self.spread * deviation
        if self.corrected:
            reach = reach / per_sample(share, reach)
        slopes = arctangent(trace.distance, steepness(self.level) / (reach + TINY))
        return trace.derivative(grad_spikes, slopes, detach_reset=True)


def steepness(level: float) -> float:
    """
    :param level: A share, in (0, 0.5).
    :return: a: with α = a / d the arctangent's step at the distance d is 1/2 + level.
    """
    return 2.0 * math.tan(math.pi * level) / math.pi


def check_level(level: float, spread: float) -> None:
    """
    :raises ValueError: If `level` is not in (0, 0.5), or `spread` is negative.
    """
    if positive("level", level) >= 0.5:
        raise ValueError(f"level must be a number in (0, 0.5), got {level!r}.")
    if isinstance(spread, bool) or not isinstance(spread, (int, float)) or not 0.0 <= spread < math.inf:
        raise ValueError(f"spread must be a finite number of at least 0, got {spread!r}.")
