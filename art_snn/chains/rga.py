r"""RGA: rate gradient approximation (Bu et al., CVPR 2023).

With c the mean input current in units of the threshold and λ the membrane factor:

.. math::

    \frac{∂L}{∂x(t)} = \frac{g(t)}{θ} \left( 0.2 \, [0 ≤ c ≤ 1 - λ]
        + \frac{0.8 + 0.2 λ}{1 + λ} \, [1 - λ ≤ c ≤ 2] \right)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import BackwardChain
from art_snn.neurons import NoGain, Trace, changes


@dataclass(frozen=True)
class RGA(BackwardChain):
    """The slope of a piecewise linear rate-current curve."""

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        return grad_spikes * self._factor(trace)

    def gain(self, trace: Trace) -> Tensor:
        factor = self._factor(trace)
        if len(factor) > 1:
            name = "threshold" if changes(trace.threshold) else "decay"
            raise NoGain(f"the {name} of {type(trace.neuron).__name__} changes with the time step")
        return factor[0]

    def _factor(self, trace: Trace) -> Tensor:
        """Shape `(1, B, ...)`; `(T, B, ...)` where θ or λ changes with the time step."""
        c = trace.mean_current.unsqueeze(0) / trace.threshold
        knee = 1.0 - trace.decay
        slow = ((c >= 0.0) & (c <= knee)).to(c.dtype) * 0.2
        fast = ((c >= knee) & (c <= 2.0)).to(c.dtype) * ((0.8 + 0.2 * trace.decay) / (1.0 + trace.decay))
        return (slow + fast) / trace.threshold
