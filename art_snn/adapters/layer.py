"""Neurons of another library as a spiking layer, and a description that says what they do.

While the layer is watched, the neurons run by their own code. Along the spikes that they fired, Eqs. 1-3 of the
description give the potentials m(t), and Eq. 4 must then give those very spikes: a wrong description never gives a
number. It is watched in the first gradient, the second, fourth, eighth ... of a kind, and whenever a setting of the
neurons changed; in between the description stands for them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.adapters.library import Description, Library
from art_snn.engine.isolate import version
from art_snn.neurons import LIF, NoGain, SpikingLayer, Trace, Value, at, changes
from art_snn.neurons.values import spread

#: How far a potential may be on the wrong side of the threshold, in units of what it is summed of: more than float32
#: rounds over many steps.
ROUNDING = 1e-4


class NotAsDescribed(ValueError):
    """Neurons do not do what their description says; the message names the layer, the step, and both values."""


class AdaptedLayer(SpikingLayer):
    """A neuron module of another library.

    :param module: The module; it is held, not copied, and none of its parameters becomes this one's.
    :param name: Its name in the network.
    :param library: What is known of its library.
    """

    def __init__(self, module: nn.Module, name: str, library: Library) -> None:
        super().__init__()
        # Past nn.Module, which would make it a child.
        self.__dict__["_held"], self.__dict__["_described"] = module, None
        self.name, self.library = name, library
        #: Where its inputs have time, see :meth:`Library.form`.
        self.form = library.form(module)
        #: What the last step left, as the library gave it.
        self.now: Any = None
        #: Whether the neurons run by their own code, and the description is compared with them.
        self.watched = True
        self._settings: Any = None
        #: Whether the network hands its state on from step to step.
        self.hands_on = False
        #: Whether its own code runs, which may call the module by another way.
        self.running = False

    @property
    def module(self) -> nn.Module:
        return self.__dict__["_held"]

    @property
    def where(self) -> str:
        """The layer in words."""
        return f"{type(self.module).__name__} at body.{self.name}" if self.name else type(self.module).__name__

    def describe(self) -> None:
        """Describe it anew: it may have learned."""
        try:
            description = self.library.describe(self.module)
        except (AttributeError, TypeError, ValueError) as error:
            raise type(error)(f"{self.where}: {error}") from None
        assert description is not None
        self.__dict__["_described"] = description

    def changed(self) -> bool:
        """Whether a setting of the neurons is another than when this was asked before."""
        module, before = self.module, self._settings
        plain = {name: value for name, value in vars(module).items() if isinstance(value, (bool, int, float, str))}
        held = [*module.parameters(), *(buffer for buffer in module.buffers() if buffer.numel())]
        self._settings = (plain, [(id(value), version(value)) for value in held])
        return before != self._settings

    @property
    def description(self) -> Description:
        """What it does, as it is now."""
        if self.__dict__["_described"] is None:
            self.describe()
        return self.__dict__["_described"]

    @property
    def described(self) -> LIF:
        return self.description.neuron

    def weighted(self, inputs: Tensor, gain: bool = False) -> Tensor:
        weight = self._weight(inputs[None][:0] if gain else inputs)
        if not isinstance(weight, Tensor) and weight == 1.0:
            return inputs
        if gain and changes(weight):
            raise NoGain(f"the weight of {self.where} changes with the time step")
        return inputs * (at(weight, 0) if gain else weight)

    def graded(self, spikes: Tensor, step: int | None = None) -> Tensor:
        return self.described.graded(spikes, step)

    def _weight(self, inputs: Tensor) -> Value:
        weight = self.description.weight
        return spread(self.where, "weight", weight, inputs.shape, inputs.dtype, True)

    @torch.no_grad()
    def simulate(self, currents: Tensor, *, spikes: Tensor | None = None) -> Tensor:
        if not self.watched:
            return self.described.simulate(self.weighted(currents), spikes=spikes)
        return (self._output(currents) != 0).to(currents.dtype)

    def _output(self, inputs: Tensor) -> Tensor:
        """What the library's code makes of inputs `(T, B, ...)`, begun anew."""
        run, module = self._run, self.module
        self.library.reset(module)
        try:
            if self.form == "time-first" and not self.library.has_synapse(module):
                return run(module, inputs, None)[0]
            if self.form == "batch-first":
                return run(module, inputs.transpose(0, 1).contiguous(), None)[0].transpose(0, 1)
            if self.form == "merged":
                return run(module, inputs.flatten(0, 1), None)[0].unflatten(0, inputs.shape[:2])
            outputs, state = [], None
            for x in inputs:
                out, state = run(module, x, state)
                outputs.append(out)
            return torch.stack(outputs)
        finally:
            self.library.reset(module)

    def _run(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        before, self.running = self.running, True
        try:
            return self.library.run(module, x, state)
        finally:
            self.running = before

    @torch.no_grad()
    def trace(self, currents: Tensor, *, spikes: Tensor | None = None) -> Trace:
        weighted = self.weighted(currents)
        if not self.watched:
            trace = self.described.trace(weighted, spikes=spikes)
            self._check_limit(trace)
            return trace
        fired = self.simulate(currents)
        trace = Trace(weighted, self.described.follow(weighted, fired), fired, self.described)
        self._agree(trace)
        return trace

    def begin(self, current: Tensor) -> Any:
        if self._is_described():
            return self.described.begin(current)
        self.library.reset(self.module)
        return None, 0

    def _is_described(self) -> bool:
        """Whether the description runs at a step: a state that the network hands on must be the library's."""
        return not self.watched and not self.hands_on and not self.library.returns_state(self.module)

    @torch.no_grad()
    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        if self._is_described():
            return self.described.step(self._at(current, state[1]), state)
        before, t = state
        if self.form == "time-first":  # among neurons that run a step at a time
            out, self.now = self._run(self.module, current[None], before)
            out = out[0]
        else:
            out, self.now = self._run(self.module, current, before)
        return (out != 0).to(current.dtype), (self.now, t + 1)

    @torch.no_grad()
    def compare(self, inputs: Tensor) -> None:
        """Compare the description with what the neurons do, on a sample's inputs and on some that make them fire.

        :param inputs: Inputs `(T, B, ...)` of a sample or a few.
        :raises NotAsDescribed: If they do something else.
        """
        if not bool(torch.isfinite(inputs).all()):
            return
        inputs = inputs.contiguous()
        before, self.watched = self.watched, True
        try:
            self._compare(inputs)
        finally:
            self.watched = before

    def _compare(self, inputs: Tensor) -> None:
        trace, weight = self.trace(inputs), self._weight(inputs)
        generator = torch.Generator().manual_seed(0)
        largest = min(self.description.limit - 1.0, 3.0)
        sizes = (1.0 + largest) * torch.rand(inputs.shape, generator=generator, dtype=torch.float64) - 1.0
        at_threshold = torch.as_tensor(trace.threshold / weight, dtype=inputs.dtype, device=inputs.device)
        probe = sizes.to(inputs) * at_threshold
        fired = self.trace(probe)
        found, expected = self._output(probe), self.described.graded(fired.spikes)
        wrong = (found - expected).abs() > ROUNDING * expected.abs()
        if bool(wrong.any()):
            place = tuple(int(part) for part in wrong.nonzero()[0])
            raise NotAsDescribed(
                f"{self.where} is described with spikes worth {float(expected[place]):g}, and gives "
                f"{float(found[place]):g} at step {place[0] + 1}."
            )
        self._compare_threshold(probe, at_threshold)

    def _compare_threshold(self, probe: Tensor, at_threshold: Tensor) -> None:
        """Whether it fires at its threshold, where no rounding is in the way."""
        neuron, weight = self.described, self.description.weight
        plain = all(not isinstance(value, Tensor) for value in (weight, neuron.v_init, neuron.v_rest))
        if not plain or weight != 1.0 or neuron.v_init != 0.0 or neuron.v_rest != 0.0:
            return
        probe = probe.clone()
        probe[0] = at_threshold.expand_as(probe)[0]
        fires = self.simulate(probe)[0] != 0
        if bool((fires == neuron.strict).any()):
            raise NotAsDescribed(
                f"{self.where} is described as {'strict' if neuron.strict else 'not strict'}, and "
                f"{'fires' if neuron.strict else 'does not fire'} at step 1 where its potential is the threshold, "
                f"{float(at_threshold.flatten()[0]):g}."
            )

    def _agree(self, trace: Trace) -> None:
        """
        :raises NotAsDescribed: If Eq. 4 gives other spikes than were fired.
        """
        self._check_limit(trace)
        m, threshold = trace.potentials, trace.threshold
        expected = m > threshold if self.described.strict else m >= threshold
        wrong = expected != (trace.spikes != 0)
        if not bool(wrong.any()):
            return
        size = m.abs() + trace.currents.abs() + (threshold.abs() if isinstance(threshold, Tensor) else threshold)
        wrong &= (m - threshold).abs() > ROUNDING * size
        if bool(wrong.any()):
            place = tuple(int(part) for part in wrong.nonzero()[0])
            raise NotAsDescribed(
                f"{self.where} does not do what its description says: at step {place[0] + 1} the described potential "
                f"is {float(m[place]):.6g}, the threshold {_number(threshold, m, place):.6g}, and it "
                f"{'fired' if bool(trace.spikes[place]) else 'did not fire'} (described as {self.described}, inputs "
                f"weighted by {self.description.weight!r})."
            )

    def _check_limit(self, trace: Trace) -> None:
        """
        :raises NotAsDescribed: If a potential is beyond what the description holds for.
        """
        limit, m, threshold = self.description.limit, trace.potentials, trace.threshold
        beyond = m > limit * threshold if math.isfinite(limit) else None
        if beyond is not None and bool(beyond.any()):
            place = tuple(int(part) for part in beyond.nonzero()[0])
            raise NotAsDescribed(
                f"{self.where} does what its description says up to potentials of {limit:g} thresholds; at step "
                f"{place[0] + 1} one is {float(m[place]):.6g}, the threshold {_number(threshold, m, place):.6g}."
            )

    def _at(self, inputs: Tensor, step: int) -> Tensor:
        """The currents of one step, of inputs `(B, ...)`."""
        weight = self._weight(inputs[None][:0])
        return inputs if not isinstance(weight, Tensor) and weight == 1.0 else inputs * at(weight, step)

    def extra_repr(self) -> str:
        return f"{self.where}, {self.description}"


def _number(threshold: Value, m: Tensor, place: tuple[int, ...]) -> float:
    return float(threshold.expand_as(m)[place]) if isinstance(threshold, Tensor) else threshold
