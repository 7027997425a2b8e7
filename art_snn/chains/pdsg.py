r"""PDSG: potential-dependent surrogate gradient (Lun et al., CVPR 2025).

Back-propagation through time, the reset differentiated as the neurons have it, with a surrogate as wide as the
potentials of a channel are spread. With u = m - θ and σ(t) the standard deviation of m over the steps up to t and over
space, for each sample and channel:

.. math:: \frac{∂s(t)}{∂m(t)} = N(u(t); σ(t)/2, σ(t))

σ is held constant; of layers without space it is taken over the layer's neurons. Where it is 0, or not defined (one
number), it is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_snn.chains.base import BackwardChain
from art_snn.neurons import Trace

#: Spreads below this share of the largest potential are 0, up to rounding.
ROUNDING = 1e-6


@dataclass(frozen=True)
class PDSG(BackwardChain):
    """Back-propagation through time with a surrogate as wide as the potentials are spread; it has no parameter."""

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        sigma = spread(trace.potentials)
        # N(u; σ/2, σ), u = m - θ
        slopes = ((trace.potentials - trace.threshold) / sigma).sub_(0.5).square_().mul_(-0.5).exp_()
        return trace.derivative(grad_spikes, slopes.div_(sigma * math.sqrt(2.0 * math.pi)))


def spread(potentials: Tensor) -> Tensor:
    """
    :param potentials: m(t), `(T, B, C, ...)`, or `(T, B, N)` of a layer without space. Only read.
    :return: σ(t), the unbiased standard deviation over the steps up to t and over space, which broadcasts against them.
    """
    over = tuple(range(3, potentials.dim())) or tuple(range(2, potentials.dim()))
    flat = (0, *over)
    centred = potentials - potentials.mean(flat, keepdim=True)  # or small spreads would cancel
    largest = potentials.abs().amax(flat, keepdim=True)
    size = math.prod(potentials.shape[dim] for dim in over)
    steps = torch.arange(1, len(potentials) + 1, device=potentials.device, dtype=potentials.dtype)
    number = (steps * size).view(-1, *[1] * (potentials.dim() - 1))
    total = centred.sum(over, keepdim=True).cumsum(0) if over else centred.cumsum(0)
    squares = centred.square()
    squares = squares.sum(over, keepdim=True).cumsum(0) if over else squares.cumsum(0)
    variance = (squares - total.square() / number).clamp_(min=0.0) / (number - 1).clamp_(min=1.0)
    sigma = variance.sqrt_()
    return torch.where(sigma > ROUNDING * largest, sigma, torch.ones_like(sigma))
