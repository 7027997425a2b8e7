"""Taking the gradient of a spiking network along a backward chain.

Three routes lead from a gradient at the logits to one at the input:

`collapsed`
    For chains with a gain. All T steps are simulated without an autograd graph, each spiking layer leaving one gain
    per neuron. Then the body runs once, at batch B, each spiking layer multiplying by its gain; the vector-Jacobian
    product of that replay is the gradient. Exact where :class:`~art_snn.affine.AffineCheck` lets the replay pass.
`step-by-step`
    For every chain that follows the simulation: the body's graph over all T steps, each spiking layer crossed by the
    chain's `backward`, its definition.
`activation`
    For CBA: the body runs once as an activation network.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from art_snn.affine import AffineCheck, CannotRun, NotAffine, ReadCheck
from art_snn.chains import CBA, BackwardChain
from art_snn.claims import NotItsGain, check_gain, check_layer, check_needs
from art_snn.health import GradientHealth, stuck
from art_snn.neurons import NotGiven, SpikingLayer, Trace, Visitor, recomputing, visiting
from art_snn.randomness import States

if TYPE_CHECKING:
    from art_snn.network import SpikingNetwork

logger = logging.getLogger(__name__)

#: Elements of one layer's trace that are simulated at a time on a CPU, so that they stay in its cache.
BLOCK = 1 << 18

#: Bytes of the largest spiking layer's activations in one go on a CPU, where no graph is kept: larger tensors come as
#: fresh pages from the operating system at every layer, which costs more than it saves to run more samples at once.
CHUNK = 16 << 20

#: How far what the body makes of a mean over time may be from the mean over time of what it makes, in units of the
#: largest: more than rounding does, TF32's included, and less than any error that matters.
ROUNDING = 1e-2

#: How torch says that memory ran out, where it has no exception of its own for it.
EXHAUSTED = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")

#: Samples without a gradient in which it is looked for the layers that never fired.
LOOKED_AT = 4

Modes = tuple[tuple[int, bool], ...]
Pullback = Callable[[Tensor], Tensor]
#: Spiking layers in the order in which a pass met them, each with the gains of the chains in question, and perhaps its
#: averages over time.
Visits = list[tuple[SpikingLayer, list[Tensor]]]


class Route(NamedTuple):
    """How a gradient was taken, and why."""

    name: str
    reason: str


class Refusal(NamedTuple):
    """Why body or chain cannot be collapsed over time, and whether that may have been so once only."""

    reason: str
    may_try_again: bool


class _Unfold:
    """Between the body's merged layout `(T*B, ...)` and the spiking layers' `(T, B, ...)`."""

    def __init__(self, time_steps: int, batch: int) -> None:
        self.time_steps, self.batch = time_steps, batch

    def unfold(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        if x.dim() and len(x) == self.time_steps * self.batch:
            return x.unflatten(0, (self.time_steps, self.batch))
        if x.dim() and len(x) == self.batch:  # the same current at every step
            return x.unsqueeze(0).expand(self.time_steps, *x.shape)
        raise ValueError(
            f"{type(layer).__name__} got an input of shape {tuple(x.shape)}; its first dimension must be "
            f"time_steps * batch = {self.time_steps * self.batch}: the body's layers must keep it."
        )


#: Of a layer's input and output `(T, B, ...)`, for each neuron: firing rate, mean input, largest absolute input.
AVERAGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda x, spikes: spikes.mean(0),
    lambda x, spikes: x.mean(0),
    lambda x, spikes: x.abs().amax(0),
)


class Simulate(_Unfold):
    """Visitor: run the neurons, without a graph, and keep the gains of the given chains.

    :param time_steps: T.
    :param batch: B.
    :param chains: Chains whose gains are wanted; none for plain inference.
    :param averages: How many of :data:`AVERAGES` to keep behind the gains.
    :param compare: Whether to compare what layers and chains say of themselves with what they do.
    """

    def __init__(
        self,
        time_steps: int,
        batch: int,
        chains: Sequence[BackwardChain] = (),
        averages: int = 0,
        compare: bool = False,
    ) -> None:
        super().__init__(time_steps, batch)
        self.chains, self.averages, self.compare = chains, averages, compare
        self.visits: Visits = []

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        currents = self.unfold(layer, x)
        if not self.chains and not self.averages:
            return _simulate(layer, currents).flatten(0, 1)
        if self.compare:
            check_layer(layer, _full(currents[:, :1]))
            for chain in self.chains:
                _given(chain, check_gain, layer, _full(currents[:, :1]), chain)
        spikes = _empty_like(currents)
        kept = [torch.empty_like(currents[0]) for _ in range(len(self.chains) + self.averages)]
        for block, part in _blocks(currents):
            trace = _traced(layer, part, spikes[:, block])
            found = [_given(chain, chain.gain, trace) for chain in self.chains]
            found += [average(part, spikes[:, block]) for average in AVERAGES[: self.averages]]
            for whole, value in zip(kept, found, strict=True):
                whole[block] = value
        self.visits.append((layer, kept))
        return spikes.flatten(0, 1)


class Revisit:
    """Visitor of a pass at batch B, which must meet the spiking layers as a :class:`Simulate` met them.

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
    """Visitor: multiply by the gains of one chain, in the order in which the layers were met."""

    def __init__(self, visits: Visits, chain: int, gains: set[int]) -> None:
        super().__init__(visits)
        self.chain, self.gains = chain, gains

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        gain = self.kept(layer, x)[self.chain]
        self.gains.add(id(gain))
        return x * gain


class Compare(Revisit):
    """Visitor: the firing rates, where each layer's input should be its mean current over time.

    Whatever :class:`AffineCheck` knows of operations: what is affine, and the same at every step, takes means over time
    to means over time.

    :param visits: What a :class:`Simulate` kept, all averages included.
    """

    def __init__(self, visits: Visits) -> None:
        super().__init__(visits)
        self.met: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        *_, rate, current, largest = self.kept(layer, x)
        self.note(x, current, largest)
        return rate.to(x.dtype)

    def note(self, x: Tensor, current: Tensor, largest: Tensor) -> None:
        """Put a layer's input `(B, ...)` beside its averages."""
        self.met.append((x.detach(), current, largest))

    @torch.no_grad()
    def agree(self, out: Tensor, logits: Tensor) -> None:
        """
        :param out: The body's output `(B, K)`.
        :param logits: The simulation's logits `(B, K)`.
        :raises NotAffine: If a current or the output is not the mean over time.
        """
        self.finish()
        if out.shape != logits.shape:
            raise NotAffine("the body's output has another shape at batch size B")
        wrong = torch.stack([_differ(*one) for one in (*self.met, (out, logits, logits.abs()))])
        if wrong.any():
            place = int(wrong.nonzero()[0])
            what = "the output" if place == len(self.met) else f"the current of spiking layer {place + 1}"
            raise NotAffine(f"{what} is not its mean over time: something changes with the time step or batch size")


def _differ(found: Tensor, mean: Tensor, largest: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Whether one is further from the other, where that is finite, than rounding in `dtype` may take it."""
    eps, device = torch.finfo(dtype or found.dtype).eps, found.device.type
    if torch.is_autocast_enabled(device):
        eps = max(eps, torch.finfo(torch.get_autocast_dtype(device)).eps)
    difference = torch.where(torch.isfinite(mean), (found - mean).abs(), 0.0).max()
    allowed = max(ROUNDING, 32 * eps) * torch.nan_to_num(largest, 0.0, 0.0).max()
    return ~(difference <= allowed)


class StepByStep(_Unfold):
    """Visitor: run the neurons and cross them backward by `chain`, which may be changed between backward passes.

    :param time_steps: T.
    :param batch: B.
    :param chain: The chain to begin with.
    :param compare: Chains for which it is compared what layers say of themselves with what they do.
    """

    def __init__(
        self, time_steps: int, batch: int, chain: BackwardChain, compare: Sequence[BackwardChain] = ()
    ) -> None:
        super().__init__(time_steps, batch)
        self.chain, self.compare = chain, compare

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        if self.compare:
            currents = _full(self.unfold(layer, x.detach())[:, :1])
            check_layer(layer, currents, derivative=True)
            for chain in self.compare:
                _given(chain, check_needs, layer, currents, chain)
        recomputing(layer, self)
        return _Spike.apply(x, layer, self).flatten(0, 1)


class _Spike(torch.autograd.Function):
    """One spiking layer over all time steps, crossed backward by the tape's chain.

    Only the currents are kept. The backward pass simulates them again, block by block: that is cheaper than to write
    the whole trace to memory and read it back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: SpikingLayer, tape: StepByStep) -> Tensor:
        ctx.layer, ctx.tape = layer, tape
        ctx.save_for_backward(x)
        return _simulate(layer, tape.unfold(layer, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        currents = ctx.tape.unfold(ctx.layer, x)
        steady = len(x) != currents.shape[0] * currents.shape[1]  # the same current at every step
        grad = torch.empty_like(x)
        into = grad if steady else ctx.tape.unfold(ctx.layer, grad)
        for block, part in _blocks(currents):
            trace = ctx.layer.trace(part)
            crossed = _given(ctx.tape.chain, ctx.tape.chain.backward, _full(grad_spikes[:, block]), trace)
            if steady:
                into[block] = crossed.sum(0)
            else:
                into[:, block] = crossed
        return grad, None, None


def _given(chain: BackwardChain, rule: Callable[..., Any], *arguments: Any) -> Any:
    """What a chain's rule gives.

    :raises ValueError: If it needs what the neuron does not give; the message names the chain.
    """
    try:
        return rule(*arguments)
    except NotGiven as lacking:
        raise NotGiven(f"chain {type(chain).__name__} cannot cross this network: {lacking}.") from None


def _simulate(layer: SpikingLayer, currents: Tensor) -> Tensor:
    """Spikes `(T, B, ...)` of a layer, block by block."""
    spikes = _empty_like(currents)
    for block, part in _blocks(currents):
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


def _empty_like(currents: Tensor) -> Tensor:
    """An uninitialised `(T, B, ...)` tensor in the memory layout of `currents`, also if those are expanded over T."""
    if currents.stride(0) == 0 and len(currents) > 1:
        return torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
    return torch.empty_like(currents)


def _blocks(currents: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the batch whose traces stay in a CPU's cache, slice and currents; the whole batch on other devices."""
    batch = currents.shape[1]
    size = batch
    if currents.device.type == "cpu":
        size = max(1, BLOCK // max(1, currents[:, 0].numel()))
    for start in range(0, batch, size):
        block = slice(start, min(start + size, batch))
        yield block, _full(currents[:, block])


def _full(x: Tensor) -> Tensor:
    """In at least 32 bits, also under autocast: neurons sum over time, and their spikes are exact in any type."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class AttackGradient(torch.autograd.Function):
    """The network as a function of its input alone, differentiated along a chain."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, network: SpikingNetwork) -> Tensor:
        logits, ctx.pullback = linearise(network, x.detach(), network.chain)
        return logits

    @staticmethod
    def backward(ctx: Any, grad_logits: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "a backward chain has no second derivative: the input's gradient cannot be differentiated."
            )
        return ctx.pullback(_defined(grad_logits)), None


def _defined(grad_logits: Tensor) -> Tensor:
    """Zero for samples at which the loss has no gradient.

    Losses that divide by a gap between logits have none where logits are equal, which happens to spiking networks. A
    NaN would take such a sample out of the rest of an attack: every later step would start from NaN.
    """
    undefined = ~torch.isfinite(grad_logits).flatten(1).all(1)
    if not undefined.any():
        return grad_logits
    logger.warning(
        "The loss has no finite gradient at the logits of %d of %d samples (equal logits?): theirs is taken as zero.",
        int(undefined.sum()),
        len(undefined),
    )
    return grad_logits.masked_fill(undefined.reshape(-1, *[1] * (grad_logits.dim() - 1)), 0.0)


def linearise(network: SpikingNetwork, x: Tensor, chain: BackwardChain) -> tuple[Tensor, Pullback]:
    """Run the network on `x` and prepare its backward pass along `chain`; the network is left as it was.

    :param network: The spiking network.
    :param x: Input `(B, ...)`, without a graph.
    :param chain: The backward chain.
    :return: Logits `(B, K)` (for CBA, the activation network's) and the map from a gradient at the logits `(B, K)`
        to one at the input `(B, ...)`, which may be called any number of times.
    :raises ValueError: If the chain mixes CBA with others, or a forced route cannot be taken.
    """
    parts = list(chain.parts())
    activation = any(isinstance(part, CBA) for _, part in parts)
    if activation and len(parts) > 1:
        raise ValueError(
            "chain mixes CBA with other chains: CBA takes the loss at its activation network's logits, so no "
            "single forward pass serves both. PyTorchSNNClassifier.loss_gradient and class_gradient add their "
            "gradients; attacks that differentiate the model itself need a mixture without CBA."
        )
    leaf = x.clone().requires_grad_()
    with left_alone(network):
        with torch.enable_grad():
            frames = network.frames(leaf)
        if not frames.requires_grad:
            raise ValueError(f"encoder {type(network.encoder).__name__} gives frames without a gradient in the input.")
        if activation:
            logits, pull = _activation(network, frames, parts[0])
        else:
            logits, pull = _simulated(network, frames.detach(), parts)

    def pullback(grad: Tensor) -> Tensor:
        reached = torch.autograd.grad(frames, leaf, pull(grad), retain_graph=True)[0].contiguous()
        _look_after(network, chain, frames.detach(), grad, reached)
        return reached

    return logits, pullback


def over_time(frames: Tensor) -> Tensor:
    """
    :param frames: Frames `(T, B, ...)`.
    :return: Their mean over time `(B, ...)`; exactly the frame, where all are the same one.
    """
    return frames[0] if frames.stride(0) == 0 else frames.mean(0)


def _look_after(
    network: SpikingNetwork, chain: BackwardChain, frames: Tensor, grad_logits: Tensor, grad: Tensor
) -> None:
    """Keep how many samples a gradient can move; say it if the network lets nothing through."""
    zero, broken = stuck(grad)
    without, _ = stuck(grad_logits)
    blocked = (zero | broken) & ~without
    names: tuple[str, ...] = ()
    if bool(blocked.any()):
        if broken.any():
            network.check_weights(anew=True)
        names = _silent(network, frames[:, blocked.nonzero().flatten()[:LOOKED_AT]])
    network.health = GradientHealth(
        repr(chain), len(grad), int(zero.sum()), int((zero & without).sum()), int(broken.sum()), names
    )
    if bool(blocked.any()):
        network.warn_of_health()


def _silent(network: SpikingNetwork, frames: Tensor) -> tuple[str, ...]:
    """Names of the spiking layers that fire for one of these samples at no step."""
    simulate = Simulate(frames.shape[0], frames.shape[1], averages=1)
    try:
        with left_alone(network), torch.no_grad():
            network.run(frames, simulate)
    except ValueError:  # a body that runs at its own batch size only
        return ()
    names = {module: name for name, module in network.named_modules()}
    found = [layer for layer, (rate,) in simulate.visits if bool((rate.flatten(1).amax(1) == 0).any())]
    return tuple(dict.fromkeys(names.get(layer, type(layer).__name__) for layer in found))


def _simulated(
    network: SpikingNetwork, frames: Tensor, parts: list[tuple[float, BackwardChain]]
) -> tuple[Tensor, Pullback]:
    """All chains that follow the simulation: collapsed where that is exact, step by step otherwise.

    :param network: The network.
    :param frames: Encoded frames `(T, B, ...)`, without a graph.
    :param parts: The weighted chains.
    :return: Logits, and the map from a gradient there to one at the frames.
    """
    chains = [part for _, part in parts]
    stepwise = network.gradient_route == "step-by-step" or not all(part.has_gain for part in chains)
    compare = due(network, frames, chains)
    graph = stepwise or refusal(network, chains, compare)
    chunks = batch_chunks(network, frames, "graph" if graph else "replay")
    pieces = [_Piece(network, frames[:, chunk], parts, lazy=len(chunks) > 1, due=compare) for chunk in chunks]

    def pullback(grad: Tensor) -> Tensor:
        return torch.cat([piece.pull(grad[chunk]) for piece, chunk in zip(pieces, chunks, strict=True)], 1)

    return torch.cat([piece.logits for piece in pieces]), pullback


class _Piece:
    """A part of the batch: its logits, and the way back to its encoded frames.

    :param network: The network.
    :param frames: Encoded frames `(T, b, ...)`, without a graph.
    :param parts: The weighted chains.
    :param lazy: Build a step-by-step graph only when it is pulled back, and drop it then, so that the graphs of many
        pieces do not pile up.
    :param due: What is to be compared.
    """

    def __init__(
        self, network: SpikingNetwork, frames: Tensor, parts: list[tuple[float, BackwardChain]], lazy: bool, due: Due
    ) -> None:
        self.network, self.frames, self.due = network, frames, due
        self.mean = over_time(frames).clone().requires_grad_()
        self.state, self.precision = _state(network) if lazy else None, _autocast(frames.device.type)
        self.replays: list[tuple[float, Tensor]] = []
        self.unrolled: tuple[StepByStep, Tensor, Tensor] | None = None

        gained = [(weight, part) for weight, part in parts if part.has_gain]
        reason = (
            "it was asked for"
            if network.gradient_route == "step-by-step"
            else refusal(network, [part for _, part in gained], due)
        )
        if gained and not reason:
            reason = self._collapse(gained)
        if reason:
            gained = []
        self.stepwise = [(weight, part) for weight, part in parts if (weight, part) not in gained]
        if self.stepwise and not reason:
            without = {type(part).__name__ for _, part in self.stepwise}
            reason = f"{', '.join(sorted(without))} has no time-independent gain"
        if self.stepwise and network.gradient_route == "collapsed":
            raise ValueError(f"gradient_route='collapsed' cannot be taken: {reason}.")
        self.random: States | None = None
        if self.stepwise and not lazy:
            self.unrolled = self._unroll()
            self.logits = self.unrolled[2].detach()
        elif self.stepwise:
            self.random = network.randomness.now()
            self.logits, _ = simulate_in_chunks(network, frames)
            if network.randomness.moved(self.random):  # in one go, as its graph will be, to draw the same
                self.random = network.randomness.now()
                with torch.no_grad():
                    self.logits = network.run(frames, Simulate(frames.shape[0], frames.shape[1]))
        network.route = (
            Route("step-by-step", reason)
            if self.stepwise
            else Route("collapsed", "the layers between spiking layers are affine")
        )

    def pull(self, grad: Tensor) -> Tensor:
        """
        :param grad: Gradient at the logits `(b, K)`.
        :return: Gradient at the frames `(T, b, ...)`.
        """
        at_mean: Tensor | None = None
        for weight, replayed in self.replays:
            at_mean = _accumulate(at_mean, _vjp(replayed, self.mean, grad), weight)
        at_frames = None if at_mean is None else (at_mean / len(self.frames)).expand_as(self.frames)
        if self.stepwise:
            if self.unrolled is None and _state(self.network) != self.state:
                raise RuntimeError("the network's weights or modes changed between its forward and backward pass.")
            with left_alone(self.network, self.random), self.precision:
                tape, leaf, unrolled = self._unroll() if self.unrolled is None else self.unrolled
                at_frames = None if at_frames is None else at_frames.clone()
                for weight, tape.chain in self.stepwise:
                    at_frames = _accumulate(at_frames, _vjp(unrolled, leaf, grad), weight)
        assert at_frames is not None
        return at_frames

    def _unroll(self) -> tuple[StepByStep, Tensor, Tensor]:
        chains = [part for _, part in self.stepwise]
        time_steps, batch = self.frames.shape[:2]
        tape = StepByStep(time_steps, batch, chains[0], chains if self.due.layers else ())
        leaf = self.frames.detach().requires_grad_()
        with torch.enable_grad():
            return tape, leaf, self.network.run(leaf, tape)

    def _collapse(self, gained: list[tuple[float, BackwardChain]]) -> str:
        """Simulate, and replay for each chain; the reason if body or chains refuse."""
        network, due, chains = self.network, self.due, [part for _, part in gained]
        try:
            averages = len(AVERAGES) if due.numbers else 0
            self.logits, visits = simulate_in_chunks(network, self.frames, chains, averages, due.layers)
            for index, (weight, _) in enumerate(gained):
                self.replays.append((weight, replay(network, self.mean, visits, index)))
            if due.numbers:
                compare_numbers(network, self.frames, self.mean, visits, self.logits, self.replays[0][1])
        except (NotAffine, NotItsGain) as reason:
            self.replays.clear()
            remember(network, reason, chains, due)
            return str(reason)
        if due.numbers:
            network._refusals.pop(due.modes, None)
        return ""


def _state(network: SpikingNetwork) -> Any:
    """What must be the same when a graph is built again: the layers' modes and the versions of their weights."""
    return modes(network), tuple(version(parameter) for parameter in network.parameters())


def version(value: Tensor) -> int:
    """
    :param value: A weight or a buffer.
    :return: How often it was changed in place, as far as torch counts that: not in inference mode.
    """
    return 0 if value.is_inference() else value._version


def _autocast(device: str) -> torch.autocast:
    """The precision in force, for later."""
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))


def _vjp(output: Tensor, leaf: Tensor, grad: Tensor) -> Tensor:
    return torch.autograd.grad(output, leaf, grad, retain_graph=True)[0]


def _accumulate(total: Tensor | None, grad: Tensor, weight: float) -> Tensor:
    if total is None:
        return grad * weight if weight != 1.0 else grad
    return total.add_(grad, alpha=weight)


def replay(network: SpikingNetwork, mean: Tensor, visits: Visits, chain: int) -> Tensor:
    """One pass of the body at batch B with the gains in place of the neurons, watched by an affine check.

    :param network: The network.
    :param mean: Mean over time of the encoded frames `(B, ...)`, the only leaf that requires a gradient.
    :param visits: What a :class:`Simulate` kept.
    :param chain: Index of the chain among its chains.
    :return: Logits `(B, K)`.
    :raises NotAffine: If the body cannot be replayed in one step.
    """
    check = AffineCheck(len(mean))
    visitor = Replay(visits, chain, check.gains)
    with torch.enable_grad(), _no_checkpoints():
        out = _at_batch_size(network, mean, visitor, check, ReadCheck())
    visitor.finish()
    if not out.requires_grad:
        raise NotAffine("the replay's output does not depend on the input")
    return out


@contextmanager
def _no_checkpoints() -> Iterator[None]:
    """Refuse gradient checkpointing, which would run spiking layers once more in the backward pass."""
    try:
        refusing = torch.autograd.graph.disable_saved_tensors_hooks("it keeps its activations by hooks (checkpointing)")
        refusing.__enter__()
    except RuntimeError:  # the caller's own hooks are in force already
        yield
        return
    with ExitStack() as stack:
        stack.push(refusing.__exit__)
        yield


def _at_batch_size(network: SpikingNetwork, mean: Tensor, visitor: Visitor, *watching: Any) -> Tensor:
    """The body's output for a mean over time `(B, ...)`; what else goes wrong at that size is a :class:`NotAffine`."""
    try:
        with ExitStack() as stack:
            for watch in (*watching, visiting(visitor)):
                stack.enter_context(watch)
            return network.body(mean)
    except (NotAffine, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # it ran at batch T*B, so it is a layer that cannot run at B
        if any(phrase in str(error).lower() for phrase in EXHAUSTED):
            raise
        raise CannotRun(f"the body does not run at batch size B ({type(error).__name__}: {error})") from error


def spread_check(network: SpikingNetwork, mean: Tensor, visits: Visits, time_steps: int) -> None:
    """Replay the first samples at a batch size of at least 2 that shares no divisor with T.

    At others an operation that tells time steps apart can look as if it told samples apart, or nothing at all.

    :param network: The network.
    :param mean: Mean over time of the encoded frames `(B, ...)`.
    :param visits: What a :class:`Simulate` kept.
    :param time_steps: T.
    :raises NotAffine: If the body cannot be replayed in one step.
    """
    size = next(n for n in range(2, time_steps + 2) if math.gcd(n, time_steps) == 1)
    rows = torch.arange(size, device=mean.device) % len(mean)
    some = [(layer, [gain[rows] for gain in gains]) for layer, gains in visits]
    replay(network, mean.detach()[rows].requires_grad_(), some, 0)


class Due(NamedTuple):
    """What is to be compared at this gradient: at the 1st, 2nd, 4th, 8th ... of its kind, for ever.

    :param numbers: What the body makes at batch size B with what it makes over all steps.
    :param layers: What layers and chains say of themselves with what they do.
    :param modes: The modes of the network's layers, see :func:`modes`.
    """

    numbers: bool
    layers: bool
    modes: Modes


def due(network: SpikingNetwork, frames: Tensor, chains: Sequence[BackwardChain]) -> Due:
    """
    :param network: The network, in whose modes and at whose batch size the body may behave as at no others.
    :param frames: Encoded frames `(T, B, ...)`.
    :param chains: The chains that are followed.
    :return: What is to be compared at this gradient.
    """
    now = modes(network)
    kinds = ((now, *frames.shape[:2]), (now, frozenset(map(type, chains))))
    counted = [network._gradients.get(kind, 0) + 1 for kind in kinds]
    network._gradients.update(zip(kinds, counted, strict=True))
    numbers, layers = (number & (number - 1) == 0 for number in counted)
    return Due(numbers, layers, now)


def compare_numbers(
    network: SpikingNetwork, frames: Tensor, mean: Tensor, visits: Visits, logits: Tensor, replayed: Tensor
) -> None:
    """Compare numbers, whatever is known of the operations.

    :param network: The network.
    :param frames: Encoded frames `(T, B, ...)`.
    :param mean: Their mean over time `(B, ...)`, a leaf.
    :param visits: What a :class:`Simulate` kept of them, averages included.
    :param logits: Their logits `(B, K)`.
    :param replayed: What :func:`replay` made of them with the first chain's gains, `(B, K)`.
    :raises NotAffine: If something is not as it should be.
    """
    spread_check(network, mean, visits, len(frames))
    average_check(network, frames.mean(0), visits, logits)
    adjoint_check(network, mean, visits, replayed)


def average_check(network: SpikingNetwork, mean: Tensor, visits: Visits, logits: Tensor) -> None:
    """The body at batch B meets the mean currents of a simulation, see :class:`Compare`.

    :param network: The network.
    :param mean: Mean over time of the frames `(B, ...)`.
    :param visits: What a :class:`Simulate` kept of them, averages included.
    :param logits: Their logits `(B, K)`.
    :raises NotAffine: If they differ.
    """
    compare = Compare(visits)
    with torch.no_grad():
        out = _at_batch_size(network, mean, compare)
    compare.agree(out, logits)


def adjoint_check(network: SpikingNetwork, mean: Tensor, visits: Visits, replayed: Tensor) -> None:
    """The backward pass of a replay is that of its forward pass: no hook, and no reading in between, changes it.

    A replay is affine, so that a step of any length in its input changes its output by the derivative: for random g and
    δ, g · (f(x + δ) - f(x)) must be (g J) · δ, sample by sample.

    :param network: The network.
    :param mean: Mean over time of the frames `(B, ...)`, a leaf.
    :param visits: What a :class:`Simulate` kept.
    :param replayed: What :func:`replay` made of them with the first chain's gains, `(B, K)`.
    :raises NotAffine: If they differ.
    """
    generator = torch.Generator().manual_seed(0)
    (at_logits, step) = (torch.randn(value.shape, generator=generator).to(value) for value in (replayed, mean))
    step = step * mean.detach().abs().mean().clamp(min=1e-3)
    pulled = _vjp(replayed, mean, at_logits)
    with torch.no_grad():
        change = _at_batch_size(network, mean.detach() + step, Replay(visits, 0, set())) - replayed.detach()
        found = (pulled * step).flatten(1).double().sum(1)
        expected = (at_logits * change).flatten(1).double().sum(1)
        largest = (at_logits.flatten(1).norm(dim=1) * change.flatten(1).norm(dim=1)).double()
        if _differ(found, expected, largest, change.dtype):
            raise NotAffine("its backward pass is not that of its forward pass: something changes the gradient")


def simulate_in_chunks(
    network: SpikingNetwork,
    frames: Tensor,
    chains: Sequence[BackwardChain] = (),
    averages: int = 0,
    compare: bool = False,
) -> tuple[Tensor, Visits]:
    """Run the network without a graph, some samples at a time.

    :param network: The network.
    :param frames: Encoded frames `(T, B, ...)`.
    :param chains: Chains whose gains are wanted.
    :param averages: How many averages over time are wanted too, see :class:`Simulate`.
    :param compare: Whether to compare what layers and chains say of themselves with what they do, see
        :class:`Simulate`.
    :return: Logits `(B, K)`, and for every visit of a spiking layer the layer and what was kept of it, `(B, ...)`.
    """
    logits: list[Tensor] = []
    visits: list[Visits] = []
    with torch.no_grad():
        for chunk in batch_chunks(network, frames):
            simulate = Simulate(len(frames), chunk.stop - chunk.start, chains, averages, compare and not visits)
            logits.append(network.run(frames[:, chunk], simulate))
            visits.append(simulate.visits)
    if len(visits) == 1:
        return logits[0], visits[0]
    merged = []
    for same in zip(*visits, strict=True):
        gains = [torch.cat(parts) for parts in zip(*(gains for _, gains in same), strict=True)]
        merged.append((same[0][0], gains))
    return torch.cat(logits), merged


def batch_chunks(network: SpikingNetwork, frames: Tensor, kept: str = "") -> list[slice]:
    """Slices of the batch that can run at once within the network's bound on activation memory.

    :param network: The network.
    :param frames: Encoded frames `(T, B, ...)`.
    :param kept: What is kept of the activations for a backward pass: nothing, those of a `"replay"` at batch B, or
        those of all steps in a `"graph"`.
    :return: The whole batch in one slice where it fits, or where a layer in training mode sees the batch as a whole.
    """
    time_steps, batch = frames.shape[:2]
    bound = network.memory_bound
    if not kept and frames.device.type == "cpu":
        bound = min(bound, 3 * CHUNK)
    size = batch
    # No network is likely to need more than 256 numbers for every number of its input.
    small = frames.numel() * frames.element_size() * 256 <= bound
    if not small and not any(module.training for module in network.body.modules()):
        largest, total = network.footprint(frames)
        # A convolution, its batch norm and the spikes stand beside each other; a graph keeps them all.
        needed = 3 * {"": largest, "replay": total // time_steps, "graph": total}[kept]
        size = max(1, bound // max(1, needed))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _activation(
    network: SpikingNetwork, frames: Tensor, weighted: tuple[float, BackwardChain]
) -> tuple[Tensor, Pullback]:
    weight, chain = weighted
    assert isinstance(chain, CBA)
    network.route = Route("activation", "CBA differentiates an activation network")
    leaf = over_time(frames).detach().clone().requires_grad_()
    with torch.enable_grad(), visiting(lambda layer, currents: _given(chain, _activated, chain, layer, currents)):
        logits = checked_output(network.body(leaf), len(leaf))

    def pullback(grad: Tensor) -> Tensor:
        return (weight / len(frames) * _vjp(logits, leaf, grad)).expand_as(frames)

    return logits.detach(), pullback


def _activated(chain: CBA, layer: SpikingLayer, currents: Tensor) -> Tensor:
    if not hasattr(layer, "threshold"):
        raise NotGiven(f"{type(layer).__name__} has no attribute 'threshold', a firing threshold")
    return chain.activation(currents, layer.threshold)


def checked_output(out: Any, rows: int) -> Tensor:
    """
    :param out: What a body returned.
    :param rows: Number of rows that it was given, T*B or B.
    :return: It, `(rows, K)`.
    :raises TypeError: If it is no tensor.
    :raises ValueError: If it has another shape.
    """
    if not isinstance(out, Tensor):
        got = type(out).__name__
        if isinstance(out, (tuple, list)):
            got += f" of {', '.join(type(part).__name__ for part in out)}"
        raise TypeError(
            f"body must return one tensor (T*B, K), the output at every step, got a {got}: wrap it in a module that "
            "returns the output alone."
        )
    if out.dim() != 2 or len(out) != rows:
        raise ValueError(f"body must map (T*B, ...) to (T*B, K), here ({rows}, K), got {tuple(out.shape)}.")
    return out


def refusal(network: SpikingNetwork, chains: Sequence[BackwardChain], compare: Due) -> str:
    """
    :param network: The network.
    :param chains: The chains that are to be collapsed.
    :param compare: What is compared; where numbers are, a body that could not run at batch size B may try again.
    :return: Why it, in its present modes, or one of them was refused a collapse before; empty if none was.
    """
    if not network._refusals:
        return ""
    now = compare.modes
    found = [network._refusals.get(key) for key in (now, *((now, type(chain)) for chain in chains))]
    return next((one.reason for one in found if one and not (compare.numbers and one.may_try_again)), "")


def remember(network: SpikingNetwork, reason: Exception, chains: Sequence[BackwardChain], compare: Due) -> None:
    """Keep, and say once, that the network in its present modes, or a chain, cannot be collapsed over time.

    :param network: The network.
    :param reason: Why.
    :param chains: The chains that were to be collapsed.
    :param compare: What was compared.
    """
    now = compare.modes
    keys: list[Any] = [(now, type(chain)) for chain in chains] if isinstance(reason, NotItsGain) else [now]
    network._refusals.update(dict.fromkeys(keys, Refusal(str(reason), isinstance(reason, CannotRun))))
    level = logging.WARNING if isinstance(reason, NotItsGain) else logging.INFO
    if str(reason) not in network._said:
        network._said.add(str(reason))
        logger.log(level, "The gradient is taken step by step, not collapsed over time: %s.", reason)


def modes(network: SpikingNetwork) -> Modes:
    """
    :param network: The network.
    :return: What tells apart the states in which its layers may behave differently.
    """
    return tuple((id(module), module.training) for module in network.body.modules())


@contextmanager
def left_alone(network: SpikingNetwork, random: States | None = None) -> Iterator[None]:
    """Leave weights, buffers, flags and the global random state as they were, whatever the body does inside the block.

    The weights are out of the graph meanwhile: nobody needs their gradient, so none is computed. What the body draws at
    random comes from the network's own generators.

    :param network: The network.
    :param random: Where those stood, to draw the same once more.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with network.own_randomness(random), buffers_kept(network):
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def buffers_kept(network: SpikingNetwork) -> Iterator[None]:
    """Undo what layers do to their buffers, such as running statistics, inside the block.

    :param network: The network.
    """
    undo = undo_buffers(network)
    try:
        yield
    finally:
        undo()


def undo_buffers(network: SpikingNetwork) -> Callable[[], None]:
    """
    :param network: The network.
    :return: What gives its layers' buffers their present values back.
    """
    buffers = [(buffer, buffer.clone()) for buffer in network.body.buffers()]

    def undo() -> None:
        for buffer, before in buffers:
            buffer.data.copy_(before)  # not in place for autograd: a graph may have saved the buffer, without using it

    return undo
