r"""STBP: spatio-temporal back-propagation (Wu et al., 2018), through Eqs. 1-4 with Eq. 15 for ∂s/∂m.

With σ(t) = ∂s(t)/∂m(t), g(t) the gradient at s(t) and G(t) that at m(t), for t = T, ..., 1:

.. math::

    G(t) = g(t) σ(t) + G(t+1) \frac{∂m(t+1)}{∂v(t)} \frac{dv(t)}{dm(t)}, \qquad
    \frac{∂L}{∂x(t)} = G(t) \frac{∂m(t)}{∂x(t)}

All but σ is the derivative of the neuron's own dynamics, which :mod:`art_snn.neurons` gives: for Eqs. 1-4 it is
`derivative` there. The reset is differentiated too, unless the neurons hold it constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import BackwardChain, check_gamma
from art_snn.neurons import Trace
from art_snn.surrogates import triangle


@dataclass(frozen=True)
class STBP(BackwardChain):
    """Back-propagation through time with the surrogate gradient of Eq. 15.

    :param gamma: Half-width γ of the surrogate gradient, > 0.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_gamma(self.gamma)

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        slopes = triangle(trace.potentials, trace.threshold, self.gamma)
        return trace.derivative(grad_spikes, slopes)
