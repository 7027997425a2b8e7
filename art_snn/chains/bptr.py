r"""BPTR: back-propagation through rate (Ding et al., NeurIPS 2022).

.. math:: \frac{∂L}{∂x(t)} = g(t) [r > 0]

A neuron passes the gradient on if it fired at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.base import BackwardChain
from art_snn.neurons import Trace


@dataclass(frozen=True)
class BPTR(BackwardChain):
    """Straight through the neurons that fired."""

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        return grad_spikes * self.gain(trace)

    def gain(self, trace: Trace) -> Tensor:
        return trace.spikes.amax(0)  # 1 where a neuron fired at any step: [r > 0]
