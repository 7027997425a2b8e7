"""A neuron module's call, on its way to the engine: intercepted on the instance, so that the module tree stays.

While the network runs its own forward pass, a neuron module hands its input to the engine's visitor and gives what that
returns. States that the network passes along itself are the library's own numbers; whoever computes with them leaves
the spikes' path, on which alone a chain knows a gradient, and is told so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from art_snn.adapters.layer import AdaptedLayer
from art_snn.adapters.library import tensors
from art_snn.engine.layout import Layout
from art_snn.neurons import Visitor


class Pass:
    """One pass of the network, all of whose neuron modules hand their inputs to a visitor.

    :param layers: The network's neuron modules, as spiking layers.
    :param visitor: The engine's.
    :param layout: Where the network keeps time.
    :param single: Whether it is a pass of one step alone, in which no neuron runs.
    """

    def __init__(self, layers: Iterable[AdaptedLayer], visitor: Visitor, layout: Layout, single: bool) -> None:
        self.visitor, self.layout, self.single = visitor, layout, single
        self.meetings = [_Meeting(self, layer) for layer in layers]
        self.met: set[AdaptedLayer] = set()
        #: Those that ran at any step.
        self.ran: set[AdaptedLayer] = set()
        #: Whether the network's caller says where a step begins; otherwise a layer that is met again does.
        self.told = False

    def begin_step(self) -> None:
        """A network that is called once for each step says so before each."""
        self.told = True
        self.met.clear()
        begin = getattr(self.visitor, "begin_step", None)
        if begin is not None:
            begin()

    def meet(self, layer: AdaptedLayer) -> None:
        """
        :raises ValueError: If a layer that keeps its state itself runs twice at one step.
        """
        again = layer in self.met
        if again and self.layout is Layout.STEPS and not self.told:
            self.begin_step()
            self.told = False
            again = False
        if again and layer.library.keeps_state(layer.module):
            raise ValueError(
                f"{layer.where} runs twice at a time step, with one state: a chain cannot cross it. Only chain "
                "'native' is left for this network."
            )
        self.met.add(layer)
        self.ran.add(layer)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Inside the block the neuron modules' calls are met."""
        entries = [(vars(one.layer.module), name, call) for one in self.meetings for name, call in one.entries()]
        before = [held.get(name) for held, name, _ in entries]
        try:
            for held, name, call in entries:
                held[name] = call
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            for (held, name, _), old in zip(entries, before, strict=True):
                held.pop(name, None)
                if old is not None:
                    held[name] = old


class _Meeting:
    """What stands in a neuron module's `forward` during a pass, and in its other entry, if its library has one."""

    def __init__(self, pass_: Pass, layer: AdaptedLayer) -> None:
        self.pass_, self.layer = pass_, layer
        #: What its last call gave as its state.
        self.given: Any = None
        self.synapse: Any = None

    def entries(self) -> Iterator[tuple[str, Any]]:
        """Names of the methods that are met, and what stands in their place."""
        yield "forward", self
        other = self.layer.library.functional(self.layer.module)
        if other is not None:
            yield other, self.functional

    def functional(self, inputs: tuple[Tensor, ...], states: Any, *others: Any, **named: Any) -> Any:
        """The other entry: `((x,), state)` to `((spikes,), state)`."""
        layer = self.layer
        library, module = layer.library, layer.module
        if layer.running:
            return getattr(type(module), str(library.functional(module)))(module, inputs, states, *others, **named)
        self._check_state(states)
        layer.hands_on = True
        self.pass_.meet(layer)
        spikes = self._visit(inputs[0])
        state = library.memories(module)
        self.given = _sealed(state, spikes, layer.where, self.pass_.single)
        return (spikes,), self.given

    def __call__(self, x: Tensor, *state: Any, **named: Any) -> Any:
        layer = self.layer
        if layer.running:
            return type(layer.module).forward(layer.module, x, *state, **named)
        library, module = layer.library, layer.module
        if library.returns_state(module) and not library.keeps_state(module):
            self._check_state([value for value in (*state, *named.values()) if value is not None])
        self.pass_.meet(layer)
        spikes = self._visit(self._through_synapse(x))
        if not library.returns_state(module):
            return spikes
        numbers = layer.now if layer.form == "step" else None
        self.given = _sealed(numbers, spikes, layer.where, self.pass_.single)
        return library.packed(spikes, self.given)

    def _visit(self, x: Tensor) -> Tensor:
        if self.layer.form == "batch-first":
            return self.pass_.visitor(self.layer, x.transpose(0, 1)).transpose(0, 1)
        if self.layer.form == "time-first" and self.pass_.layout is Layout.STEPS:
            return self._step_by_step(x)
        return self.pass_.visitor(self.layer, x)

    def _step_by_step(self, x: Tensor) -> Tensor:
        """Neurons that run all steps at once, among others that run one at a time."""
        if self.pass_.single:
            return self.pass_.visitor(self.layer, x.squeeze(0)).unsqueeze(0)
        spikes = []
        for t, now in enumerate(x.unbind(0)):
            if t:
                self.pass_.meet(self.layer)
            spikes.append(self.pass_.visitor(self.layer, now))
        return torch.stack(spikes)

    def _through_synapse(self, x: Tensor) -> Tensor:
        library, module = self.layer.library, self.layer.module
        if not library.has_synapse(module):
            return x
        if self.layer.form == "step":
            current, self.synapse = library.synapse(module, x, self.synapse)
            return current
        currents, state = [], None
        for now in x:
            current, state = library.synapse(module, now, state)
            currents.append(current)
        return torch.stack(currents)

    def _check_state(self, given: Any) -> None:
        """The state that the network hands over is the one that it got, or at the first step nobody's."""
        found, expected = tensors(given), tensors(self.given)
        if self.given is None:
            same = self.layer.library.begun(self.layer.module, given)
        else:
            same = bool(found) and all(
                any(one is other or (one.shape == other.shape and _equal(one, other)) for other in expected)
                for one in found
            )
        if not same:
            raise ValueError(
                f"{self.layer.where} is handed a state that is not the one it gave at the step before "
                f"({'none' if not found else 'changed in between'}): a chain knows its potentials from its inputs "
                "alone. Only chain 'native' is left for this network."
            )


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(one.detach(), other.detach()))


def _sealed(state: Any, spikes: Tensor, where: str, single: bool) -> Any:
    """A state to hand on, of whose numbers no gradient is known; no numbers at all, where no neuron ran."""
    if state is None or (single and not isinstance(state, tuple)):
        return torch.full(spikes.shape, torch.nan, dtype=spikes.dtype, device=spikes.device)
    if isinstance(state, Tensor):
        return _Sealed.apply(state, spikes, where)
    if isinstance(state, tuple):
        parts = [_sealed(part, spikes, where, single) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


class _Sealed(torch.autograd.Function):
    """Numbers that are as they are, and whose gradient is an error."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, spikes: Tensor, where: str) -> Tensor:
        ctx.where = where
        return numbers.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        raise ValueError(
            f"the network's output depends on the state of {ctx.where} otherwise than by its spikes: a chain knows no "
            "gradient there. Read out spikes, or a layer without a threshold; chain 'native' follows the library."
        )
