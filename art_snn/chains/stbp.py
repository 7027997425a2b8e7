r"""STBP: spatio-temporal back-propagation (Wu et al., 2018), through Eqs. 1-4 with Eq. 15 for ∂s/∂m.

With G(t) the gradient at m(t), g(t) that at s(t) and σ(t) = ∂s(t)/∂m(t), for t = T, ..., 1:

.. math::

    G(t) = g(t) σ(t) + λ G(t+1) \frac{∂v(t)}{∂m(t)}, \qquad
    \frac{∂v(t)}{∂m(t)} = \begin{cases}
        1 - s(t) - (m(t) - v_{rest}) σ(t) & \text{hard reset} \\ 1 - θ σ(t) & \text{soft reset}
    \end{cases}

The reset is not detached. x(t) enters m(t) with factor 1, so G(t) is the gradient at the currents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_snn.chains.base import BackwardChain, check_gamma
from art_snn.chains.surrogate import triangle
from art_snn.neurons import Trace


@dataclass(frozen=True)
class STBP(BackwardChain):
    """Back-propagation through time with the surrogate gradient of Eq. 15.

    :param gamma: Half-width γ of the surrogate gradient, > 0.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_gamma(self.gamma)

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        # With a = λ G(t+1): hard reset G = σ (g - a (m - v_rest)) + a (1 - s), soft reset G = σ (g - θ a) + a.
        sigma = triangle(trace.potentials, trace.threshold, self.gamma)
        grad_currents = torch.empty_like(trace.potentials)
        last = len(grad_spikes) - 1
        torch.mul(grad_spikes[last], sigma[last], out=grad_currents[last])
        for t in range(last - 1, -1, -1):
            G, a = grad_currents[t], grad_currents[t + 1] * trace.decay
            if trace.reset == "soft":
                torch.sub(grad_spikes[t], a, alpha=trace.threshold, out=G).mul_(sigma[t]).add_(a)
            else:
                m, s = trace.potentials[t], trace.spikes[t]
                height = m - trace.v_rest if trace.v_rest else m
                torch.addcmul(grad_spikes[t], a, height, value=-1, out=G).mul_(sigma[t]).add_(a)
                G.addcmul_(a, s, value=-1)
        return grad_currents
