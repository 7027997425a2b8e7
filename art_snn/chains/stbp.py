r"""STBP: spatio-temporal back-propagation (Wu et al., 2018), through Eqs. 1-4 with a surrogate for ∂s/∂m, Eq. 15 by
default.

With σ(t) = ∂s(t)/∂m(t), g(t) the gradient at s(t) and G(t) that at m(t), for t = T, ..., 1:

.. math::

    G(t) = g(t) σ(t) + G(t+1) \frac{∂m(t+1)}{∂v(t)} \frac{dv(t)}{dm(t)}, \qquad
    \frac{∂L}{∂x(t)} = G(t) \frac{∂m(t)}{∂x(t)}

All but σ is the derivative of the neuron's own dynamics, which :mod:`art_snn.neurons` gives: for Eqs. 1-4 it is
`derivative` there. The reset is differentiated too, unless the neurons, or the chain, hold it constant.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import SurrogateChain
from art_snn.neurons import Trace
from art_snn.surrogates import Surrogate


@dataclass(frozen=True, init=False, repr=False)
class STBP(SurrogateChain):
    """Back-propagation through time with a surrogate gradient.

    :param gamma: Half-width γ > 0 of the triangle of Eq. 15, in units of the potential; 1 if nothing is given.
    :param surrogate: Another surrogate gradient instead, of :mod:`art_snn.surrogates`.
    :param detach_reset: Hold the spike that resets constant; otherwise it is as the neurons have it.
    :raises ValueError: If both `gamma` and `surrogate` are given, or one is out of its range.
    """

    detach_reset: bool = False

    def __init__(
        self, gamma: float | None = None, *, surrogate: Surrogate | None = None, detach_reset: bool = False
    ) -> None:
        super().__init__(gamma, surrogate=surrogate)
        if not isinstance(detach_reset, bool):
            raise ValueError(f"detach_reset must be True or False, got {detach_reset!r}.")
        object.__setattr__(self, "detach_reset", detach_reset)

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        return trace.derivative(grad_spikes, self.surrogate.at(trace.distance), detach_reset=self.detach_reset)
