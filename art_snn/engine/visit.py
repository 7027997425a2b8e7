"""What happens at a spiking layer: the only place where neurons and chains meet the network.

A visitor gets the layer and its input, and returns what the layers above shall see.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from art_snn.chains import BackwardChain
from art_snn.chains.state import Visit, moment_of
from art_snn.engine.affine import NotAffine
from art_snn.engine.claims import check_gain, check_layer, check_needs
from art_snn.engine.layout import Layout, Unfold, blocks, empty_like, full, loudest
from art_snn.neurons import NoGain, NotGiven, Recomputing, SpikingLayer, Trace, at, changes, recomputing

logger = logging.getLogger(__name__)

#: Spiking layers in the order in which a pass met them, each with the gains of the chains in question, and perhaps its
#: averages over time.
Visits = list[tuple[SpikingLayer, list[Tensor]]]

#: Of a layer's input and output `(T, B, ...)`, for each neuron: mean output (the firing rate, where spikes are not
#: scaled), mean input, largest absolute input.
AVERAGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda x, spikes: spikes.mean(0),
    lambda x, spikes: x.mean(0),
    lambda x, spikes: x.abs().amax(0),
)


class Rule:
    """A chain at one gradient, with its state then, if it has one.

    :param chain: The chain.
    :param batch: Number of samples of the batch.
    :raises ValueError: If a run of the chain is under way on other samples.
    """

    def __init__(self, chain: BackwardChain, batch: int) -> None:
        self.chain = chain
        self.moment = moment_of(chain, batch)

    def gain(self, trace: Trace, visit: Visit, block: slice) -> Tensor:
        """
        :param trace: What a simulation left of a layer, of some samples `(T, b, ...)`.
        :param visit: Which visit of which layer.
        :param block: Which samples of the batch.
        :return: The factor of a gradient on its way from the layer's output to its currents, `(b, ...)`.
        :raises NoGain: If it is not the same at every step.
        """
        gain = given(self.chain, _gain, self.chain, self._remembering(trace, visit, block))
        return given(self.chain, visit[0].weighted, gain, True)

    def backward(self, grad_spikes: Tensor, trace: Trace, visit: Visit, block: slice) -> Tensor:
        """
        :param grad_spikes: Gradient at the spikes `(T, b, ...)`.
        :param trace: As for :meth:`gain`.
        :param visit: As for :meth:`gain`.
        :param block: As for :meth:`gain`.
        :return: Gradient at the currents `(T, b, ...)`.
        """
        crossed = given(self.chain, self.chain.backward, grad_spikes, self._remembering(trace, visit, block))
        return visit[0].weighted(crossed)

    def _remembering(self, trace: Trace, visit: Visit, block: slice) -> Trace:
        if self.moment is None:
            return trace
        return replace(trace, state=self.moment.state(self.chain, visit, trace, block))


class Simulate(Unfold):
    """Visitor: run the neurons, without a graph, and keep the gains of the given chains.

    :param time_steps: T.
    :param batch: B.
    :param rules: Chains whose gains are wanted; none for plain inference.
    :param averages: How many of :data:`AVERAGES` to keep behind the gains.
    :param compare: Whether to compare what layers and chains say of themselves with what they do.
    :param first: Place of the first of these samples in the whole batch.
    :param layout: Where the network keeps time.
    """

    def __init__(
        self,
        time_steps: int,
        batch: int,
        rules: Sequence[Rule] = (),
        averages: int = 0,
        compare: bool = False,
        first: int = 0,
        layout: Layout = Layout.MERGED,
    ) -> None:
        super().__init__(time_steps, batch, layout)
        self.rules, self.averages, self.compare, self.first = rules, averages, compare, first
        self.visits: Visits = []
        self.met: Counter[SpikingLayer] = Counter()
        #: Of a network that runs step by step: what its layers got and their states, by visit.
        self.steps: dict[Visit, Steps] = {}
        #: Whether what was compared showed something: every layer fired.
        self.showed = True

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        if self.layout is Layout.STEPS:
            return self.step(layer, x)
        return self.fold(layer.graded(self.spikes(layer, x)))

    def begin_step(self) -> None:
        """A network that runs step by step says so before each."""
        self.met.clear()

    def visit(self, layer: SpikingLayer) -> Visit:
        """
        :param layer: The spiking layer that runs now.
        :return: Which of its visits in a pass, or in a step, this is.
        """
        self.met[layer] += 1
        return layer, self.met[layer] - 1

    def step(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        """
        :param layer: The spiking layer that runs now.
        :param x: Its input of this step `(B, ...)`.
        :return: What it gives at this step `(B, ...)`.
        """
        steps = self.steps.setdefault(self.visit(layer), Steps())
        if len(x) != self.batch:
            raise ValueError(
                f"{type(layer).__name__} got an input of shape {tuple(x.shape)}, expected B = {self.batch}."
            )
        spikes = steps.run(layer, x)
        if not self.rules and not self.averages:
            steps.currents.clear()
        return spikes

    def finish(self) -> None:
        """A network that ran step by step is through: put traces together from the visits."""
        if not self.rules and not self.averages:
            return
        for visit, steps in self.steps.items():
            self._keep(visit, steps.together(self.time_steps))

    def spikes(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        """
        :param layer: The spiking layer that runs now.
        :param x: Its input at all steps, in the network's layout.
        :return: Its spikes `(T, B, ...)`.
        """
        currents, visit = self.unfold(layer, x), self.visit(layer)
        if not self.rules and not self.averages:
            return _simulate(layer, currents)
        return self._keep(visit, currents)

    def _keep(self, visit: Visit, currents: Tensor) -> Tensor:
        """Trace a layer, keep gains and averages, and give its spikes."""
        layer, _ = visit
        if self.compare:
            loud = full(loudest(currents))
            layer.compare(loud)
            neuron, loud = layer.described, layer.weighted(loud)
            check_layer(neuron, loud, self.layout is Layout.STEPS)
            for rule in self.rules:
                self.showed &= given(rule.chain, check_gain, neuron, loud, rule.chain)
        spikes = empty_like(currents)
        kept = [torch.empty_like(currents[0]) for _ in range(len(self.rules) + self.averages)]
        for block, part in blocks(currents):
            trace = _traced(layer, part, spikes[:, block])
            found = [rule.gain(trace, visit, shifted(block, self.first)) for rule in self.rules]
            found += [average(part, layer.graded(spikes[:, block])) for average in AVERAGES[: self.averages]]
            for whole, value in zip(kept, found, strict=True):
                whole[block] = value
        self.visits.append((layer, kept))
        return spikes


class Steps:
    """One spiking layer in a network that runs step by step: what it got so far, and its state."""

    def __init__(self) -> None:
        self.currents: list[Tensor] = []
        self.state: tuple[Any, ...] | None = None
        self.ran = 0

    @torch.no_grad()
    def run(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        """
        :param layer: The layer.
        :param x: Its input of this step `(B, ...)`.
        :return: What it gives at this step `(B, ...)`, without a graph.
        """
        current = full(x.detach())
        self.currents.append(current)
        spikes, self.state = layer.step(current, layer.begin(current) if self.state is None else self.state)
        self.ran += 1
        return layer.graded(spikes.unsqueeze(0).to(x.dtype), self.ran - 1).squeeze(0)

    def together(self, time_steps: int) -> Tensor:
        """
        :param time_steps: T.
        :return: Its input at all steps `(T, B, ...)`.
        :raises ValueError: If it did not run at each.
        """
        if len(self.currents) != time_steps:
            raise ValueError(f"a spiking layer ran at {len(self.currents)} of {time_steps} time steps.")
        return torch.stack(self.currents)


class Revisit:
    """Visitor of a pass at batch B, which must meet the spiking layers as a :class:`Simulate` met them.

    Where time comes first, what runs at batch B runs one step, `(1, B, ...)`; what was kept takes that shape.

    :param visits: What it kept.
    """

    def __init__(self, visits: Visits) -> None:
        self.visits = iter(visits)

    def kept(self, layer: SpikingLayer, x: Tensor) -> list[Tensor]:
        """
        :param layer: The spiking layer that runs now.
        :param x: Its input `(B, ...)`.
        :return: What was kept of it.
        :raises NotAffine: If it is not its turn.
        """
        recorded, kept = next(self.visits, (None, []))
        if x.dim() and kept and x.shape == (1, *kept[0].shape):
            kept = [value.unsqueeze(0) for value in kept]
        if recorded is not layer or kept[0].shape != x.shape:
            raise NotAffine("the spiking layers do not run in the same order, or shape, at batch size B")
        return kept

    def finish(self) -> None:
        """
        :raises NotAffine: If a layer did not run.
        """
        if next(self.visits, None) is not None:
            raise NotAffine("a spiking layer of the simulation does not run at batch size B")


class Replay(Revisit):
    """Visitor: multiply by a chain's gains, which are kept first, in the order in which the layers were met."""

    def __init__(self, visits: Visits, gains: set[int]) -> None:
        super().__init__(visits)
        self.gains = gains

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        gain = self.kept(layer, x)[0]
        self.gains.add(id(gain))
        return x * gain


class StepByStep(Unfold, Recomputing):
    """Visitor: run the neurons as `simulate` does, and cross them backward by `rule`.

    A network that runs step by step is cut at its spiking layers: what they give are leaves, and :class:`Cut` has both
    ends of each.

    :param simulate: Runs the neurons, and keeps the gains of other chains meanwhile, if those are wanted.
    :param rules: The chains that cross; `rule`, which begins with the first, may be changed between backward passes.
    :param compare: Whether to compare what layers say of themselves with what they do.
    """

    def __init__(self, simulate: Simulate, rules: Sequence[Rule], compare: bool = False) -> None:
        super().__init__(simulate.time_steps, simulate.batch, simulate.layout)
        self.simulate, self.rules, self.compare = simulate, rules, compare
        self.rule = rules[0]
        #: Whether the graph is there: what runs now, runs again for a backward pass (gradient checkpointing).
        self.built = False
        self.cuts: dict[Visit, Cut] = {}

    def begin_step(self) -> None:
        """A network that runs step by step says so before each."""
        self.simulate.begin_step()

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        if self.layout is Layout.STEPS:
            return self._cut(layer, x)
        if self.compare and not self.built:
            self.look_at(layer, self.unfold(layer, x.detach()))
        recomputing(layer, self)
        learned = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        return self.fold(_Spike.apply(x, layer, self, *learned))

    def look_at(self, layer: SpikingLayer, currents: Tensor) -> None:
        """Compare what a layer says of itself with what it does.

        :param layer: The layer.
        :param currents: Its input `(T, B, ...)`.
        """
        currents = full(loudest(currents))
        layer.compare(currents)
        neuron, currents = layer.described, layer.weighted(currents)
        check_layer(neuron, currents, self.layout is Layout.STEPS)
        for rule in self.rules:
            given(rule.chain, check_needs, neuron, currents, rule.chain)

    def _cut(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        if self.built:
            raise RuntimeError("a network that runs step by step cannot have gradient checkpoints in it.")
        place = (layer, self.simulate.met[layer])
        cut = self.cuts.setdefault(place, Cut())
        cut.inputs.append(x)
        cut.spikes.append(self.simulate.step(layer, x).requires_grad_())
        return cut.spikes[-1]

    def same(self, other: Recomputing) -> bool:
        mine = (self.time_steps, self.batch, self.rule.chain)
        return isinstance(other, StepByStep) and mine == (other.time_steps, other.batch, other.rule.chain)

    def fits(self, x: Tensor) -> bool:
        if self.layout is Layout.TIME_FIRST:
            return x.shape[:2] == (self.time_steps, self.batch)
        return x.dim() > 0 and len(x) in (self.batch, self.time_steps * self.batch)


class Cut:
    """Both ends of a graph that is cut at a spiking layer, step by step."""

    def __init__(self) -> None:
        #: What it got, with its graph, and what it gave, leaves of the graph above: T of each.
        self.inputs: list[Tensor] = []
        self.spikes: list[Tensor] = []

    @property
    def currents(self) -> Tensor:
        """What the layer got, at all steps `(T, B, ...)`, without a graph."""
        return torch.stack([full(x.detach()) for x in self.inputs])


class _Spike(torch.autograd.Function):
    """One spiking layer over all time steps, crossed backward by the tape's chain.

    Only the currents are kept. The backward pass simulates them again, block by block: that is cheaper than to write
    the whole trace to memory and read it back. `learned` are the layer's own parameters that train with the weights.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: SpikingLayer, tape: StepByStep, *learned: nn.Parameter) -> Tensor:
        ctx.layer, ctx.tape = layer, tape
        ctx.save_for_backward(x, *learned)
        if not tape.built:
            ctx.visit = (layer, tape.simulate.met[layer])
            return layer.graded(tape.simulate.spikes(layer, x))
        if any(rule.moment is not None for rule in tape.rules):
            raise ValueError(
                f"chain {type(tape.rule.chain).__name__} has a state for each visit of a layer, and gradient "
                "checkpointing visits layers again: take the checkpoints out of the body, or another chain."
            )
        ctx.visit = (layer, 0)
        return layer.graded(_simulate(layer, tape.unfold(layer, x)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, *learned = ctx.saved_tensors
        tape, learning = ctx.tape, _Learning(learned)
        currents = tape.unfold(ctx.layer, x)
        steady = (
            tape.layout is Layout.MERGED and len(x) != currents.shape[0] * currents.shape[1]
        )  # the same current at every step
        grad = torch.empty_like(x)
        into = grad if steady else tape.unfold(ctx.layer, grad)
        for block, crossed in crossings(tape, ctx.visit, currents, grad_output, learning):
            if steady:
                into[block] = crossed.sum(0)
            else:
                into[:, block] = crossed
        if learned and not learning.asked:
            stays(ctx.layer, tape.rule.chain)
        return grad, None, None, *learning.grads


def crossings(
    tape: StepByStep, visit: Visit, currents: Tensor, grad_output: Tensor, learning: _Learning | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """
    :param tape: The pass whose layers are crossed.
    :param visit: The visit of a layer.
    :param currents: Its input `(T, B, ...)`.
    :param grad_output: Gradient at its output `(T, B, ...)`.
    :param learning: Where the gradients at the layer's own parameters add up.
    :return: Some samples at a time, and the gradient at their currents `(T, b, ...)`.
    """
    for block, part in blocks(currents):
        layer, trace, at_output = visit[0], visit[0].trace(part), full(grad_output[:, block])
        of_batch = shifted(block, tape.simulate.first)
        watched = trace if learning is None else learning.watched(trace)
        crossed = tape.rule.backward(layer.graded(at_output), watched, visit, of_batch)
        if learning is not None and learning.asked:
            learning.scale(at_output, trace)
        yield block, crossed


class _Learning:
    """The gradients at a layer's own parameters, which add up when a chain asks for the layer's derivative.

    :param parameters: The parameters; none in an attack.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = tuple(parameters)
        self.grads: list[Tensor | None] = [None] * len(self.parameters)
        #: Whether a chain asked, and the layer knew.
        self.asked = False

    def watched(self, trace: Trace) -> Trace:
        if not self.parameters:
            return trace
        return _LearningTrace(trace.currents, trace.potentials, trace.spikes, trace.neuron, trace.state, learning=self)

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, trace: Trace) -> Tensor:
        try:
            crossed, found = trace.neuron.derivatives(grad_spikes, slopes, trace, self.parameters)
        except NotGiven:  # a layer that gives the gradient at its currents only
            return trace.neuron.derivative(grad_spikes, slopes, trace)
        self.asked = True
        self._add(found)
        return crossed

    def scale(self, grad_output: Tensor, trace: Trace) -> None:
        """What the output depends on besides the spikes."""
        with torch.enable_grad():
            scale = trace.neuron.value("scale", trace.spikes) if hasattr(trace.neuron, "scale") else 1.0
        if isinstance(scale, Tensor) and scale.requires_grad:
            at_scale = (grad_output * trace.spikes).sum_to_size(scale.shape)
            self._add(torch.autograd.grad(scale, self.parameters, at_scale, allow_unused=True))

    def _add(self, found: Sequence[Tensor | None]) -> None:
        for place, new in enumerate(found):
            old = self.grads[place]
            if new is not None:
                self.grads[place] = new if old is None else old + new


@dataclass(frozen=True)
class _LearningTrace(Trace):
    learning: _Learning = field(kw_only=True)

    def _derivative(self, grad_spikes: Tensor, slopes: Tensor) -> Tensor:
        return self.learning.derivative(grad_spikes, slopes, self)


#: What was said of a layer by :func:`stays`.
_said: WeakKeyDictionary[SpikingLayer, set[str]] = WeakKeyDictionary()


def stays(layer: SpikingLayer, chain: BackwardChain) -> None:
    """Say, once, that a chain does not train a layer's own parameters, where it has some that could be.

    :param layer: A spiking layer.
    :param chain: The chain that the training follows.
    """
    own = [name for name, parameter in layer.module.named_parameters() if parameter.requires_grad]
    if own and repr(chain) not in _said.setdefault(layer, set()):
        _said[layer].add(repr(chain))
        logger.warning(
            "%s of %s: %s does not train what neurons themselves depend on, so that it stays as it is. STBP does, "
            "where a layer gives the derivative by it (SpikingLayer.derivatives).",
            ", ".join(own),
            type(layer.module).__name__,
            type(chain).__name__,
        )


def _gain(chain: BackwardChain, trace: Trace) -> Tensor:
    layer, gain = trace.neuron, chain.gain(trace)
    scale = layer.value("scale", trace.currents) if hasattr(layer, "scale") else 1.0
    if changes(scale):
        raise NoGain(f"{type(layer).__name__} scales its spikes otherwise at every step")
    scale = at(scale, 0)
    return gain if not isinstance(scale, Tensor) and scale == 1.0 else gain * scale


def shifted(block: slice, by: int) -> slice:
    """
    :param block: Some samples of a part of the batch.
    :param by: Place of that part's first sample in the batch.
    :return: Those samples of the batch.
    """
    return slice(block.start + by, block.stop + by)


def given(chain: BackwardChain, rule: Callable[..., Any], *arguments: Any) -> Any:
    """What a chain's rule gives.

    :raises ValueError: If it needs what the neuron does not give; the message names the chain.
    :raises NoGain: If it has none on these neurons; likewise.
    """
    try:
        return rule(*arguments)
    except NoGain as reason:
        raise NoGain(f"{type(chain).__name__} has no time-independent gain here: {reason}", chain) from None
    except NotGiven as lacking:
        raise NotGiven(f"chain {type(chain).__name__} cannot cross this network: {lacking}.") from None


def _simulate(layer: SpikingLayer, currents: Tensor) -> Tensor:
    """Spikes `(T, B, ...)` of a layer, block by block."""
    spikes = empty_like(currents)
    for block, part in blocks(currents):
        _written(layer, layer.simulate(part, spikes=spikes[:, block]), spikes[:, block])
    return spikes


def _traced(layer: SpikingLayer, currents: Tensor, spikes: Tensor) -> Trace:
    """The trace of a layer, its spikes also in `spikes`."""
    trace = layer.trace(currents, spikes=spikes)
    _written(layer, trace.spikes, spikes)
    return trace


def _written(layer: SpikingLayer, returned: Tensor, spikes: Tensor) -> None:
    """What a layer returns counts, whether or not it wrote it where it could.

    :raises ValueError: If it is not of the shape of the currents.
    """
    if not isinstance(returned, Tensor) or returned.shape != spikes.shape:
        shape = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
        raise ValueError(f"{type(layer).__name__} gives spikes of shape {shape}, expected {tuple(spikes.shape)}.")
    if returned.data_ptr() != spikes.data_ptr() or returned.stride() != spikes.stride():
        spikes.copy_(returned)
