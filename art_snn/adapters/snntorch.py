r"""snnTorch's neurons: Leaky, Lapicque and Synaptic.

With ρ(t) = 1 where mem(t-1) > θ, held constant in the gradient:

.. math::

    \text{subtract:}\quad mem &= β\,mem + x - ρ θ,   && \text{a soft reset by } θ / β \\
    \text{zero:}\quad mem &= β (1 - ρ)\,mem + x,      && \text{a hard reset to 0} \\
    \text{none:}\quad mem &= β\,mem + x

fired at mem > θ, and worth `graded_spikes_factor`. Without `reset_delay` the reset of a spike is taken at once, which
is one by θ as long as no potential passes 2 θ; one that does is an error.
Lapicque has β = 1 - Δt / RC, and inputs weighted by Δt / C. Synaptic has a synapse, syn = α syn + x, for x: it stays in
autograd, and the neurons are cut at the membrane. The reset to zero of these two is another, which forgets the input of
the step after a spike too.
"""

from __future__ import annotations

import math
from typing import Any

import snntorch
import torch
from torch import Tensor, nn

from art_snn.adapters.library import Description, Library, Refused, number
from art_snn.neurons import LIF


class SnnTorch(Library):
    """snnTorch, from 0.9 on."""

    name = "snnTorch"

    def describe(self, module: nn.Module) -> Description | None:
        if not isinstance(module, snntorch.SpikingNeuron):
            return None
        kind = next(kind for kind in type(module).__mro__ if kind.__module__.startswith("snntorch"))
        if kind is snntorch.Leaky:
            return _described(module, number(module.beta.clamp(0, 1)), 1.0)
        if kind is snntorch.Lapicque:
            step = number(module.time_step / (module.R * module.C))
            return _described(module, 1.0 - step, number(module.R) * step)
        if kind is snntorch.Synaptic:
            return _described(module, number(module.beta.clamp(0, 1)), 1.0)
        raise Refused(
            f"snnTorch's {kind.__name__} cannot be adapted: only Leaky, Lapicque and Synaptic follow Eqs. 1-4"
            + (", it is recurrent." if kind.__name__.startswith(("R", "SLSTM", "SConv")) else ".")
        )

    def reset(self, module: nn.Module) -> None:
        if isinstance(module, snntorch.SpikingNeuron):
            for name in ("mem", "syn", "syn_exc", "syn_inh", "spk"):
                if isinstance(getattr(module, name, None), Tensor):
                    setattr(module, name, torch.zeros(0, device=getattr(module, name).device))
            module.__dict__.pop("reset", None)

    def form(self, module: nn.Module) -> str | None:
        return "step"

    def keeps_state(self, module: Any) -> bool:
        return bool(module.init_hidden)

    def returns_state(self, module: Any) -> bool:
        return bool(module.output or not module.init_hidden)

    def run(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Behind its synapse, which stands for itself: there its current is the input, whatever it was before."""
        given: tuple[Any, ...] = () if state is None or self.keeps_state(module) else (state,)
        if self.has_synapse(module):
            if given:
                given = (torch.zeros_like(x), state[1])
            elif isinstance(module.syn, Tensor):
                module.syn = torch.zeros_like(x)
        out = type(module).forward(module, x, *given)
        if not self.returns_state(module):
            return out, None
        return out[0], out[1:] if self.has_synapse(module) else out[1]

    def has_synapse(self, module: nn.Module) -> bool:
        return isinstance(module, snntorch.Synaptic)

    def synapse(self, module: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        syn = x if state is None else module.alpha.clamp(0, 1) * state + x
        return syn, syn

    def packed(self, spikes: Tensor, state: Any) -> Any:
        return (spikes, *state) if isinstance(state, tuple) else (spikes, state)


def _described(module: Any, beta: Any, weight: Any) -> Description:
    for flag, what in (("inhibition", "inhibition"), ("state_quant", "a quantised state")):
        if getattr(module, flag):
            raise Refused(f"snnTorch's {type(module).__name__} with {what} cannot be adapted: Eqs. 1-4 have none.")
    reset, delayed = module.reset_mechanism, getattr(module, "reset_delay", True)
    if reset == "zero" and not isinstance(module, snntorch.Leaky):
        raise Refused(
            f"snnTorch's {type(module).__name__} with reset_mechanism='zero' cannot be adapted: it forgets the input "
            "of the step after a spike, which Eqs. 1-4 do not."
        )
    threshold = number(module.threshold)
    lif = LIF(
        decay=beta,
        threshold=threshold,
        reset={"subtract": "soft", "zero": "hard", "none": "none"}[reset],
        reset_by=threshold / beta if reset == "subtract" and delayed else None,
        strict=True,
        detach_reset=delayed,
        scale=number(module.graded_spikes_factor),
    )
    return Description(lif, weight, 2.0 if reset == "subtract" and not delayed else math.inf)
