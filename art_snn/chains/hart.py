r"""HART: hybrid attack by rate and temporal information (Hao et al., ICLR 2024), Eqs. 13-15.

The gradient is pruned along time (nothing flows from m(t+1) to m(t) or s(t)) and merged over it:

.. math::

    \left[\frac{∂L}{∂m}\right] = \frac{1}{T} \sum_t \frac{∂L}{∂s(t)} \frac{∂s(t)}{∂m(t)}  \quad (14), \qquad
    \frac{∂L}{∂s^{l-1}(t)} = \left[\frac{∂L}{∂m}\right] \frac{∂m(t)}{∂s^{l-1}(t)}  \quad (13)

with Eq. 15 for ∂s/∂m, or another surrogate. Since ∂L/∂s(t) is then the same at every step, the mean of ∂s/∂m over time
is the layer's gain.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import SurrogateChain
from art_snn.neurons import Trace


@dataclass(frozen=True, init=False, repr=False)
class HART(SurrogateChain):
    """The hybrid gradient of Eqs. 13-15.

    :param gamma: Half-width γ > 0 of the triangle of Eq. 15, in units of the potential; 1 if nothing is given. Small:
        more temporal, large: more rate information.
    :param surrogate: Another surrogate gradient instead, of :mod:`art_snn.surrogates`.
    :raises ValueError: If both are given, or one is out of its range.
    """

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        merged = (grad_spikes * self.surrogate.at(trace.distance)).mean(0)  # Eq. 14
        return merged.expand_as(grad_spikes)  # Eq. 13

    def gain(self, trace: Trace) -> Tensor:
        return self.surrogate.mean_at(trace.distance)
