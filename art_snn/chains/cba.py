r"""CBA: conversion-based approximation (Sharmin et al., 2019).

No time at all: the network runs once as an activation network, each spiking layer replaced by a quantised clip of its
current c (in units of the threshold), with L = 8 levels:

.. math::

    a = \frac{1}{L} \left\lfloor L \, clip(c, 0, 1) + \tfrac{1}{2} \right\rfloor, \qquad
    \frac{∂a}{∂c} = [0 ≤ c ≤ 1]

and the loss is taken at that network's logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_snn.chains.base import BackwardChain
from art_snn.neurons import Value

LEVELS = 8


@dataclass(frozen=True)
class CBA(BackwardChain):
    """The gradient of the activation network that the weights would make. It follows no simulation, so it has neither
    a `backward` over time steps nor a gain.
    """

    def activation(self, currents: Tensor, threshold: Value) -> Tensor:
        """
        :param currents: Input of the layer in the activation network, shape `(B, ...)`.
        :param threshold: Firing threshold θ.
        :return: Its output, shape `(B, ...)`, differentiable by the rule above.
        """
        return _QuantisedClip.apply(currents / threshold)


class _QuantisedClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor) -> Tensor:
        ctx.save_for_backward((c >= 0.0) & (c <= 1.0))
        return c.clamp(0.0, 1.0).mul_(LEVELS).add_(0.5).floor_().div_(LEVELS)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (inside,) = ctx.saved_tensors
        return grad * inside
