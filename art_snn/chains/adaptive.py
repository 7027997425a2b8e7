r"""Adaptive HART (experiment)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_snn.chains.assg import TINY, steepness
from art_snn.chains.base import BackwardChain
from art_snn.neurons import Trace
from art_snn.surrogates import arctangent


@dataclass(frozen=True)
class AdaptiveHART(BackwardChain):
    level: float = 0.425
    spread: float = 1.5
    scope: str = "neuron"
    shape: str = "atan"
    scale: float = 1.0
    merge: bool = True

    def slopes(self, trace):
        d = trace.distance
        if self.scope == "neuron":
            M = d.mean(0, keepdim=True)
            D = (d - M).abs().mean(0, keepdim=True)
        elif self.scope == "step":
            M = d; D = 0*d
        else:
            dims = (0,) + tuple(range(2, d.dim()))
            if self.scope == "channel" and d.dim() > 3:
                dims = (0,) + tuple(range(3, d.dim()))
            M = d.mean(dims, keepdim=True); D = (d - M).abs().mean(dims, keepdim=True)
        reach = M + self.spread * D + TINY
        if self.shape == "atan":
            return arctangent(d, steepness(self.level) / reach)
        g = self.scale * reach
        return (1 - d / g).clamp(min=0) / g

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        s = self.slopes(trace)
        if not self.merge:
            return trace.derivative(grad_spikes, s, detach_reset=True)
        return (grad_spikes * s).mean(0).expand_as(grad_spikes)

    def gain(self, trace: Trace) -> Tensor:
        return self.slopes(trace).mean(0)

    @property
    def has_gain(self):
        return self.merge
