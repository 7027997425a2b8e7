r"""Rate: the rate gradient of Hao et al. (ICLR 2024), Eqs. 9-11.

With c = W r the mean input current of a neuron and r its firing rate:

.. math:: g_{rate} = E\left(\frac{r}{c}\right) \text{ if } c > 0 \text{ else } 0  \quad (10)

and a gradient crosses the layer as g(t) g_rate (11). The expectation is taken over the layer's neurons with c > 0, for
each sample by itself, so that a sample's gradient does not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import BackwardChain
from art_snn.neurons import Trace


@dataclass(frozen=True)
class Rate(BackwardChain):
    """The rate gradient of Eq. 10."""

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        return grad_spikes * self.gain(trace)

    def gain(self, trace: Trace) -> Tensor:
        current = trace.mean_current
        driven = current > 0
        ratio = (trace.rate / current).masked_fill_(~driven, 0.0).flatten(1).sum(1)
        expectation = ratio / driven.flatten(1).sum(1).clamp(min=1)
        return driven * expectation.view(-1, *[1] * (current.dim() - 1))
