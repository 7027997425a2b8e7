r"""Norse's neurons: LIFBox, LIF and IAF, as cells and with time.

With a = Δt / τ_mem, and u = v - v_leak (v itself for IAF) the potential of Eqs. 1-4:

.. math::

    \text{LIFBox:}\quad v &← v + a (v_{leak} - v + x),   && λ = 1 - a, \text{ weight } a \\
    \text{LIF:}\quad i &← i + x, \; v ← v + a (v_{leak} - v + i), \; i ← i (1 - Δt / τ_{syn}) \\
    \text{IAF:}\quad v &← v + x,                         && λ = 1, \text{ weight } 1

fired at v > v_th, then reset to v_reset, or by v_th. The synapse of LIF, i, stays in autograd: what the neurons are cut
at is the membrane, whose current it is.
"""

from __future__ import annotations

from typing import Any

import norse.torch as norse
import torch
from norse.torch.functional.reset import reset_subtract, reset_value
from norse.torch.module.snn import SNN, SNNCell, SNNRecurrent, SNNRecurrentCell
from torch import Tensor, nn

from art_snn.adapters.library import Description, Library, Refused, number
from art_snn.neurons import LIF

#: Neurons by the function that advances them.
KINDS = {"lif_box_feed_forward_step": "box", "lif_feed_forward_step": "synaptic", "iaf_feed_forward_step": "iaf"}


class Norse(Library):
    """Norse, from 1.1 on."""

    name = "Norse"

    def describe(self, module: nn.Module) -> Description | None:
        if isinstance(module, (SNNRecurrent, SNNRecurrentCell)):
            raise Refused(
                f"Norse's {type(module).__name__} cannot be adapted: it is recurrent, and a chain over all steps of "
                "one layer has no place between the steps of another."
            )
        if not isinstance(module, (SNN, SNNCell)):
            return None
        kind = KINDS.get(getattr(module.activation, "__name__", ""))
        if kind is None:
            if _is_linear(module):
                return None
            raise Refused(
                f"Norse's {type(module).__name__} cannot be adapted: only LIFBox, LIF and IAF follow Eqs. 1-4."
            )
        return _described(module.p, kind, module.dt)

    def form(self, module: nn.Module) -> str | None:
        return "time-first" if isinstance(module, SNN) else "step"

    def keeps_state(self, module: nn.Module) -> bool:
        return False

    def returns_state(self, module: nn.Module) -> bool:
        return True

    def run(self, module: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Behind its synapse, which stands for itself: there its current is the input, whatever it was before."""
        if isinstance(module, SNN) and not self.has_synapse(module):
            return type(module).forward(module, x, state)
        state = module.state_fallback(x[None] if isinstance(module, SNN) else x) if state is None else state
        if self.has_synapse(module):
            state = state._replace(i=torch.zeros_like(x))
        return module.activation(x, state, module.p, module.dt)

    def has_synapse(self, module: nn.Module) -> bool:
        return (
            isinstance(module, (SNN, SNNCell)) and getattr(module.activation, "__name__", "") == "lif_feed_forward_step"
        )

    def synapse(self, module: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        current = x if state is None else state + x
        return current, current + (-module.dt * module.p.tau_syn_inv * current)

    def output(self, network: nn.Module, out: Any) -> Any:
        stateful = isinstance(network, (norse.SequentialState, SNN, SNNCell))
        return out[0] if stateful and isinstance(out, tuple) else out


def _is_linear(module: Any) -> bool:
    """Leaky integrators fire nothing: they stay in autograd."""
    return getattr(module.activation, "__name__", "").startswith("li_")


def _described(p: Any, kind: str, dt: float) -> Description:
    v_th, v_reset = number(p.v_th), number(p.v_reset)
    if kind == "iaf":
        return Description(LIF(1.0, v_th, "hard", v_reset, v_init=v_reset, strict=True))
    a, v_leak = dt * number(p.tau_mem_inv), number(p.v_leak)
    method = getattr(p, "reset_method", reset_value)
    if method not in (reset_value, reset_subtract):
        raise Refused(
            f"Norse's reset_method {method!r} cannot be adapted: only reset_value and reset_subtract are known."
        )
    if method is reset_subtract:
        return Description(LIF(1.0 - a, v_th - v_leak, "soft", reset_by=v_th, strict=True), a)
    return Description(LIF(1.0 - a, v_th - v_leak, "hard", v_reset - v_leak, strict=True), a)
