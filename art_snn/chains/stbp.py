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
        grad_currents = torch.empty_like(trace.potentials)
        later: Tensor | None = None  # λ G(t+1), the gradient at v(t)
        for t in range(len(grad_spikes) - 1, -1, -1):
            m, g = trace.potentials[t], grad_spikes[t]
            sigma = triangle(m, trace.threshold, self.gamma)
            G = grad_currents[t]
            if later is None:
                torch.mul(g, sigma, out=G)
            elif trace.reset == "soft":
                torch.addcmul(later, sigma, g.sub(later, alpha=trace.threshold), out=G)
            else:
                height = m - trace.v_rest if trace.v_rest else m
                silent = torch.lt(m, trace.threshold, out=torch.empty_like(m))  # 1 - s(t)
                torch.addcmul(g, later, height, value=-1, out=G).mul_(sigma).addcmul_(later, silent)
            later = G * trace.decay
        return grad_currents
