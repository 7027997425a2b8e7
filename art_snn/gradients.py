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

from art_snn.affine import AffineCheck, NotAffine, ReadCheck
from art_snn.chains import CBA, BackwardChain
from art_snn.neurons import SpikingLayer, Visitor, visiting

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

#: Instead of the number of gradients before, once a comparison showed something.
DONE = -1

Pullback = Callable[[Tensor], Tensor]
#: Spiking layers in the order in which a pass met them, each with the gains of the chains in question, and perhaps its
#: averages over time.
Visits = list[tuple[SpikingLayer, list[Tensor]]]


class Route(NamedTuple):
    """How a gradient was taken, and why."""

    name: str
    reason: str


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
    """

    def __init__(self, time_steps: int, batch: int, chains: Sequence[BackwardChain] = (), averages: int = 0) -> None:
        super().__init__(time_steps, batch)
        self.chains, self.averages = chains, averages
        self.visits: Visits = []

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        currents = self.unfold(layer, x)
        if not self.chains:
            return _simulate(layer, currents).flatten(0, 1)
        spikes = _empty_like(currents)
        kept = [torch.empty_like(currents[0]) for _ in range(len(self.chains) + self.averages)]
        for block, part in _blocks(currents):
            trace = layer.trace(part, spikes=spikes[:, block])
            found = [chain.gain(trace) for chain in self.chains]
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

    def __init__(self, visits: Visits, chain: int, check: AffineCheck) -> None:
        super().__init__(visits)
        self.chain, self.check = chain, check

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        gain = self.kept(layer, x)[self.chain]
        self.check.gains.add(id(gain))
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
        self.rates: list[Tensor] = []

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        *_, rate, current, largest = self.kept(layer, x)
        self.note(x, rate, current, largest)
        return rate.to(x.dtype)

    def note(self, x: Tensor, rate: Tensor, current: Tensor, largest: Tensor) -> None:
        """Put a layer's input `(B, ...)` beside its averages."""
        self.met.append((x.detach(), current, largest))
        self.rates.append(rate)

    @torch.no_grad()
    def agree(self, out: Tensor, logits: Tensor) -> bool:
        """
        :param out: The body's output `(B, K)`.
        :param logits: The simulation's logits `(B, K)`.
        :return: Whether that shows something: layers were compared, and all of them fired.
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
        return bool(self.rates) and bool(torch.stack([rate.any() for rate in self.rates]).all())


def _differ(found: Tensor, mean: Tensor, largest: Tensor) -> Tensor:
    """Whether one is further from the other, where that is finite, than rounding may take it."""
    eps, device = torch.finfo(found.dtype).eps, found.device.type
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
    """

    def __init__(self, time_steps: int, batch: int, chain: BackwardChain) -> None:
        super().__init__(time_steps, batch)
        self.chain = chain

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
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
            crossed = ctx.tape.chain.backward(_full(grad_spikes[:, block]), trace)
            if steady:
                into[block] = crossed.sum(0)
            else:
                into[:, block] = crossed
        return grad, None, None


def _simulate(layer: SpikingLayer, currents: Tensor) -> Tensor:
    """Spikes `(T, B, ...)` of a layer, block by block."""
    spikes = _empty_like(currents)
    for block, part in _blocks(currents):
        layer.simulate(part, spikes=spikes[:, block])
    return spikes


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
    with left_alone(network):
        if any(isinstance(part, CBA) for _, part in parts):
            if len(parts) > 1:
                raise ValueError(
                    "chain mixes CBA with other chains: CBA takes the loss at its activation network's logits, so no "
                    "single forward pass serves both. PyTorchSNNClassifier.loss_gradient and class_gradient add their "
                    "gradients; attacks that differentiate the model itself need a mixture without CBA."
                )
            ((weight, part),) = parts
            network.route = Route("activation", "CBA differentiates an activation network")
            logits, pull = _activation(network, x, part)
            return logits, lambda grad: weight * pull(grad)
        return _simulated(network, x, parts)


def _simulated(network: SpikingNetwork, x: Tensor, parts: list[tuple[float, BackwardChain]]) -> tuple[Tensor, Pullback]:
    """All chains that follow the simulation: collapsed where that is exact, step by step otherwise."""
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        frames, mean = network.frames(leaf), network.encoder.mean(leaf)
    stepwise = network.gradient_route == "step-by-step" or not all(part.has_gain for _, part in parts)
    chunks = batch_chunks(network, frames.detach(), "graph" if stepwise or refusal(network) else "replay")
    pieces = [
        _Piece(network, frames.detach()[:, chunk], mean.detach()[chunk], parts, lazy=len(chunks) > 1)
        for chunk in chunks
    ]

    def pullback(grad: Tensor) -> Tensor:
        pulled = [piece.pull(grad[chunk]) for piece, chunk in zip(pieces, chunks, strict=True)]
        throughs, grads = [], []
        for through, parts_of_it, dim in ((frames, [p[0] for p in pulled], 1), (mean, [p[1] for p in pulled], 0)):
            reached = [part for part in parts_of_it if part is not None]
            if reached:
                throughs.append(through)
                grads.append(torch.cat(reached, dim))
        return torch.autograd.grad(throughs, leaf, grads, retain_graph=True)[0].contiguous()

    return torch.cat([piece.logits for piece in pieces]), pullback


class _Piece:
    """A part of the batch: its logits, and the way back to its encoded frames or to their mean over time.

    :param network: The network.
    :param frames: Encoded frames `(T, b, ...)`, without a graph.
    :param mean: Their mean over time as the encoder gives it, `(b, ...)`, without a graph.
    :param parts: The weighted chains.
    :param lazy: Build a step-by-step graph only when it is pulled back, and drop it then, so that the graphs of many
        pieces do not pile up.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        frames: Tensor,
        mean: Tensor,
        parts: list[tuple[float, BackwardChain]],
        lazy: bool,
    ) -> None:
        self.network, self.frames, self.mean = network, frames, mean.clone().requires_grad_()
        self.state, self.precision = _state(network) if lazy else None, _autocast(frames.device.type)
        self.replays: list[tuple[float, Tensor]] = []
        self.unrolled: tuple[StepByStep, Tensor, Tensor] | None = None

        reason = "it was asked for" if network.gradient_route == "step-by-step" else refusal(network)
        gained = [] if reason else [(weight, part) for weight, part in parts if part.has_gain]
        if gained:
            reason = self._collapse(gained)
            gained = [] if reason else gained
        self.stepwise = [(weight, part) for weight, part in parts if (weight, part) not in gained]
        if self.stepwise and not reason:
            without = {type(part).__name__ for _, part in self.stepwise}
            reason = f"{', '.join(sorted(without))} has no time-independent gain"
        if self.stepwise and network.gradient_route == "collapsed":
            raise ValueError(f"gradient_route='collapsed' cannot be taken: {reason}.")
        if self.stepwise and not lazy:
            self.unrolled = self._unroll()
            self.logits = self.unrolled[2].detach()
        elif not gained:
            self.logits, _ = simulate_in_chunks(network, frames)
        network.route = (
            Route("step-by-step", reason)
            if self.stepwise
            else Route("collapsed", "the layers between spiking layers are affine")
        )

    def pull(self, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """
        :param grad: Gradient at the logits `(b, K)`.
        :return: Gradients at the frames `(T, b, ...)` and at their mean `(b, ...)`; None where no chain leads.
        """
        at_frames = at_mean = None
        for weight, replayed in self.replays:
            at_mean = _accumulate(at_mean, _vjp(replayed, self.mean, grad), weight)
        if self.stepwise:
            if self.unrolled is None:
                if _state(self.network) != self.state:
                    raise RuntimeError("the network's weights or modes changed between its forward and backward pass.")
                with left_alone(self.network), self.precision:
                    tape, leaf, unrolled = self._unroll()
            else:
                tape, leaf, unrolled = self.unrolled
            for weight, tape.chain in self.stepwise:
                at_frames = _accumulate(at_frames, _vjp(unrolled, leaf, grad), weight)
        return at_frames, at_mean

    def _unroll(self) -> tuple[StepByStep, Tensor, Tensor]:
        tape = StepByStep(len(self.frames), len(self.mean), self.stepwise[0][1])
        leaf = self.frames.detach().requires_grad_()
        with torch.enable_grad():
            return tape, leaf, self.network.run(leaf, tape)

    def _collapse(self, gained: list[tuple[float, BackwardChain]]) -> str:
        """Simulate, and replay for each chain; the reason if the body refuses."""
        network = self.network
        compare = comparison_due(network, self.frames)
        averages = len(AVERAGES) if compare else 0
        self.logits, visits = simulate_in_chunks(network, self.frames, [part for _, part in gained], averages)
        try:
            for index, (weight, _) in enumerate(gained):
                self.replays.append((weight, replay(network, self.mean, visits, index)))
            if compare:
                spread_check(network, self.mean, visits, len(self.frames))
                if average_check(network, self.frames.mean(0), visits, self.logits):
                    comparison_done(network, self.frames)
        except NotAffine as reason:
            self.replays.clear()
            remember(network, str(reason))
            return str(reason)
        return ""


def _state(network: SpikingNetwork) -> Any:
    """What must be the same when a graph is built again: the layers' modes and the versions of their weights."""
    return modes(network), tuple(parameter._version for parameter in network.parameters())


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
    visitor = Replay(visits, chain, check)
    with torch.enable_grad():
        out = _at_batch_size(network, mean, visitor, check, ReadCheck())
    visitor.finish()
    if not out.requires_grad:
        raise NotAffine("the replay's output does not depend on the input")
    return out


def _at_batch_size(network: SpikingNetwork, mean: Tensor, visitor: Visitor, *watching: Any) -> Tensor:
    """The body's output for a mean over time `(B, ...)`; what else goes wrong at that size is a :class:`NotAffine`."""
    try:
        with ExitStack() as stack:
            for watch in (*watching, visiting(visitor)):
                stack.enter_context(watch)
            return network.body(mean)
    except NotAffine:
        raise
    except Exception as error:  # it ran at batch T*B, so it is a layer that cannot run at B
        raise NotAffine(f"the body does not run at batch size B ({type(error).__name__}: {error})") from error


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


def comparison_due(network: SpikingNetwork, frames: Tensor) -> bool:
    """Whether to compare numbers, too: at the 1st, 2nd, 4th, 8th ... gradient until one comparison shows something.

    :param network: The network, in whose modes and at whose batch size the body may behave as at no others.
    :param frames: Encoded frames `(T, B, ...)`.
    """
    size = _size(network, frames)
    number = network._compared.get(size, 0)
    if number == DONE:
        return False
    network._compared[size] = number + 1
    return (number + 1) & number == 0


def comparison_done(network: SpikingNetwork, frames: Tensor) -> None:
    """Note that the comparison showed something.

    :param network: The network.
    :param frames: Encoded frames `(T, B, ...)`.
    """
    network._compared[_size(network, frames)] = DONE


def _size(network: SpikingNetwork, frames: Tensor) -> Any:
    return (modes(network), *frames.shape[:2])


def average_check(network: SpikingNetwork, mean: Tensor, visits: Visits, logits: Tensor) -> bool:
    """Compare numbers: see :class:`Compare`.

    :param network: The network.
    :param mean: Mean over time of the frames themselves `(B, ...)`.
    :param visits: What a :class:`Simulate` kept of them, averages included.
    :param logits: Their logits `(B, K)`.
    :return: Whether every spiking layer fired, so that every piece was tried.
    :raises NotAffine: If they differ.
    """
    compare = Compare(visits)
    with torch.no_grad():
        out = _at_batch_size(network, mean, compare)
    return compare.agree(out, logits)


def simulate_in_chunks(
    network: SpikingNetwork, frames: Tensor, chains: Sequence[BackwardChain] = (), averages: int = 0
) -> tuple[Tensor, Visits]:
    """Run the network without a graph, some samples at a time.

    :param network: The network.
    :param frames: Encoded frames `(T, B, ...)`.
    :param chains: Chains whose gains are wanted.
    :param averages: How many averages over time are wanted too, see :class:`Simulate`.
    :return: Logits `(B, K)`, and for every visit of a spiking layer the layer and what was kept of it, `(B, ...)`.
    """
    logits, visits = [], []
    with torch.no_grad():
        for chunk in batch_chunks(network, frames):
            simulate = Simulate(len(frames), chunk.stop - chunk.start, chains, averages)
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


def _activation(network: SpikingNetwork, x: Tensor, chain: BackwardChain) -> tuple[Tensor, Pullback]:
    assert isinstance(chain, CBA)
    leaf = x.clone().requires_grad_()
    with torch.enable_grad(), visiting(lambda layer, currents: chain.activation(currents, layer.threshold)):
        logits = network.body(network.encoder.mean(leaf))

    def pullback(grad: Tensor) -> Tensor:
        return torch.autograd.grad(logits, leaf, grad, retain_graph=True)[0].contiguous()

    return logits.detach(), pullback


def refusal(network: SpikingNetwork) -> str:
    """
    :param network: The network.
    :return: Why it was refused a collapse before, in its present modes; empty if it was not.
    """
    return network._refusals.get(modes(network), "")


def remember(network: SpikingNetwork, reason: str) -> None:
    """Keep, and say once, that the network in its present modes cannot be collapsed over time.

    :param network: The network.
    :param reason: Why.
    """
    network._refusals[modes(network)] = reason
    logger.info("The gradient is taken step by step, not collapsed over time: %s.", reason)


def modes(network: SpikingNetwork) -> tuple[tuple[int, bool], ...]:
    """
    :param network: The network.
    :return: What tells apart the states in which its layers may behave differently.
    """
    return tuple((id(module), module.training) for module in network.body.modules())


@contextmanager
def left_alone(network: SpikingNetwork) -> Iterator[None]:
    """Leave weights, buffers, flags and the global random state as they were, whatever the body does inside the block.

    The weights are out of the graph meanwhile: nobody needs their gradient, so none is computed.

    :param network: The network.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    training = any(module.training for module in network.body.modules())
    devices = sorted({p.device.index or 0 for p in network.parameters() if p.device.type == "cuda"})
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=devices if training else []), buffers_kept(network):
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
