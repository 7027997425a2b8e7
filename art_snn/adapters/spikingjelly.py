r"""SpikingJelly's neurons: IFNode, LIFNode, ParametricLIFNode.

With v the potential there, and u = v - v_reset (v_reset = 0 for the soft reset) that of Eqs. 1-4:

.. math::

    \text{LIF, decay\_input:}\quad h &= v + (x - (v - v_{reset})) / τ, && λ = 1 - 1/τ, \text{ weight } 1/τ \\
    \text{LIF, else:}\quad h &= v - (v - v_{reset}) / τ + x,           && λ = 1 - 1/τ, \text{ weight } 1 \\
    \text{IF:}\quad h &= v + x,                                        && λ = 1, \text{ weight } 1

fired at h ≥ θ, so that the threshold of u is θ - v_reset; v(0) = v_reset, so that u(0) = 0. The parametric LIF has
sigmoid(w) for 1/τ.
"""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import base, neuron
from torch import nn

from art_snn.adapters.library import Description, Library, Refused, number
from art_snn.neurons import LIF


class SpikingJelly(Library):
    """SpikingJelly, from 0.0.0.0.14 on."""

    name = "SpikingJelly"

    def describe(self, module: Any) -> Description | None:
        for kind in type(module).__mro__:
            if kind is neuron.LIFNode:
                return _lif(module, 1.0 / number(module.tau), module.decay_input)
            if kind is neuron.ParametricLIFNode:
                return _lif(module, number(module.w.sigmoid()), module.decay_input)
            if kind is neuron.IFNode:
                return _lif(module, 0.0, False)
            if _is_neuron(kind):
                raise Refused(
                    f"SpikingJelly's {kind.__name__} cannot be adapted: only IFNode, LIFNode and ParametricLIFNode "
                    "follow Eqs. 1-4."
                )
            if "Recurrent" in kind.__name__ and kind.__module__.startswith("spikingjelly"):
                raise Refused(
                    f"SpikingJelly's {kind.__name__} cannot be adapted: it is recurrent, and a chain over all steps of "
                    "one layer has no place between the steps of another."
                )
        return None

    def reset(self, module: nn.Module) -> None:
        if isinstance(module, base.MemoryModule):
            module.reset()

    def functional(self, module: nn.Module) -> str | None:
        return "functional_forward" if hasattr(module, "functional_forward") else None

    def learns_only(self, module: nn.Module) -> bool:
        return self.functional(module) is None  # before version 2: in evaluation mode it fires without a surrogate

    def memories(self, module: nn.Module) -> Any:
        return tuple(base.extract_memories(module))

    def form(self, module: Any) -> str | None:
        return {"s": "step", "m": "time-first"}[module.step_mode]


def _is_neuron(kind: type) -> bool:
    """A class of the library's neurons that fires; its abstract ones are not met."""
    where = kind.__module__
    return where.startswith("spikingjelly.") and ".neuron" in where and not kind.__name__.startswith("NonSpiking")


def _lif(module: Any, leak: Any, decay_input: bool) -> Description:
    v_reset = module.v_reset
    lif = LIF(
        decay=1.0 - leak,
        threshold=number(module.v_threshold) - (0.0 if v_reset is None else number(v_reset)),
        reset="soft" if v_reset is None else "hard",
        reset_by=None,
        detach_reset=bool(module.detach_reset),
    )
    return Description(lif, leak if decay_input else 1.0)
