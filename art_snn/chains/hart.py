r"""HART: hybrid attack by rate and temporal information (Hao et al., ICLR 2024), Eqs. 13-15.

The gradient is pruned along time (nothing flows from m(t+1) to m(t) or s(t)) and merged over it:

.. math::

    \left[\frac{∂L}{∂m}\right] = \frac{1}{T} \sum_t \frac{∂L}{∂s(t)} \frac{∂s(t)}{∂m(t)}  \quad (14), \qquad
    \frac{∂L}{∂s^{l-1}(t)} = \left[\frac{∂L}{∂m}\right] \frac{∂m(t)}{∂s^{l-1}(t)}  \quad (13)

with Eq. 15 for ∂s/∂m. Since ∂L/∂s(t) is then the same at every step, the mean of Eq. 15 over time is the layer's gain.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import BackwardChain, check_gamma
from art_snn.neurons import Trace
from art_snn.surrogates import mean_triangle, triangle


@dataclass(frozen=True)
class HART(BackwardChain):
    """The hybrid gradient of Eqs. 13-15.

    :param gamma: Half-width γ of the surrogate gradient, > 0. Small: more temporal, large: more rate information.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_gamma(self.gamma)

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        merged = (grad_spikes * triangle(trace.potentials, trace.threshold, self.gamma)).mean(0)  # Eq. 14
        return merged.expand_as(grad_spikes)  # Eq. 13

    def gain(self, trace: Trace) -> Tensor:
        return mean_triangle(trace.distance, self.gamma)
