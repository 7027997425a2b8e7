"""Which route a gradient takes, and why.

Three routes lead from a gradient at the logits to one at the input: `collapsed` (:mod:`art_snn.engine.collapse`),
`step-by-step` (the body's graph over all T steps, each spiking layer crossed by the chain's `backward`, its definition)
and `activation` (:mod:`art_snn.engine.activation`).
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.engine.activation import activation
from art_snn.engine.affine import NotAffine
from art_snn.engine.chunk import batch_chunks, simulate_in_chunks
from art_snn.engine.claims import NotItsGain
from art_snn.engine.collapse import compare_numbers, replay, vjp
from art_snn.engine.compare import Due, due, note, refusal, remember
from art_snn.engine.isolate import autocast, check_weights, left_alone, state
from art_snn.engine.layout import over_time
from art_snn.engine.problem import Problem, Pullback, Route
from art_snn.engine.visit import AVERAGES, Simulate, StepByStep
from art_snn.health import GradientHealth, stuck
from art_snn.neurons import visiting
from art_snn.randomness import States

logger = logging.getLogger(__name__)


#: Samples without a gradient in which it is looked for the layers that never fired.
LOOKED_AT = 4


class AttackGradient(torch.autograd.Function):
    """The network as a function of its input alone, differentiated along a chain."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, problem: Problem, chain: BackwardChain) -> Tensor:
        logits, ctx.pullback = linearise(problem, x.detach(), chain)
        return logits

    @staticmethod
    def backward(ctx: Any, grad_logits: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "a backward chain has no second derivative: the input's gradient cannot be differentiated."
            )
        return ctx.pullback(_defined(grad_logits)), None, None


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


def linearise(problem: Problem, x: Tensor, chain: BackwardChain) -> tuple[Tensor, Pullback]:
    """Run the network on `x` and prepare its backward pass along `chain`; the network is left as it was.

    :param problem: The network, as the engine sees it.
    :param x: Input `(B, ...)`, without a graph.
    :param chain: The backward chain.
    :return: Logits `(B, K)` (for CBA, the activation network's) and the map from a gradient at the logits `(B, K)`
        to one at the input `(B, ...)`, which may be called any number of times.
    :raises ValueError: If the chain mixes CBA with others, or a forced route cannot be taken.
    """
    parts = list(chain.parts())
    alone = [type(part).__name__ for _, part in parts if part.has_activation]
    if alone and len(parts) > 1:
        raise ValueError(
            f"chain mixes {alone[0]} with other chains: {alone[0]} takes the loss at its activation network's logits, "
            "so no single forward pass serves both. PyTorchSNNClassifier.loss_gradient and class_gradient add their "
            "gradients; attacks that differentiate the model itself need a mixture without it."
        )
    leaf = x.clone().requires_grad_()
    with left_alone(problem):
        with torch.enable_grad():
            frames = problem.frames(leaf)
        if not frames.requires_grad:
            raise ValueError("encoder gives frames without a gradient in the input.")
        if alone:
            logits, pull = activation(problem, frames, *parts[0])
        else:
            logits, pull = _simulated(problem, frames.detach(), parts)

    def pullback(grad: Tensor) -> Tensor:
        reached = torch.autograd.grad(frames, leaf, pull(grad), retain_graph=True)[0].contiguous()
        _look_after(problem, chain, frames.detach(), grad, reached)
        return reached

    return logits, pullback


def _simulated(problem: Problem, frames: Tensor, parts: list[tuple[float, BackwardChain]]) -> tuple[Tensor, Pullback]:
    """All chains that follow the simulation: collapsed where that is exact, step by step otherwise.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`, without a graph.
    :param parts: The weighted chains.
    :return: Logits, and the map from a gradient there to one at the frames.
    """
    chains = [part for _, part in parts]
    stepwise = problem.gradient_route == "step-by-step" or not all(part.has_gain for part in chains)
    compare = due(problem, frames, chains)
    graph = stepwise or refusal(problem, chains, compare)
    chunks = batch_chunks(problem, frames, "graph" if graph else "replay")
    pieces = [_Piece(problem, frames[:, chunk], parts, lazy=len(chunks) > 1, due=compare) for chunk in chunks]

    def pullback(grad: Tensor) -> Tensor:
        return torch.cat([piece.pull(grad[chunk]) for piece, chunk in zip(pieces, chunks, strict=True)], 1)

    return torch.cat([piece.logits for piece in pieces]), pullback


class _Piece:
    """A part of the batch: its logits, and the way back to its encoded frames.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, b, ...)`, without a graph.
    :param parts: The weighted chains.
    :param lazy: Build a step-by-step graph only when it is pulled back, and drop it then, so that the graphs of many
        pieces do not pile up.
    :param due: What is to be compared.
    """

    def __init__(
        self, problem: Problem, frames: Tensor, parts: list[tuple[float, BackwardChain]], lazy: bool, due: Due
    ) -> None:
        self.problem, self.frames, self.due = problem, frames, due
        self.mean = over_time(frames).clone().requires_grad_()
        self.state, self.precision = state(problem) if lazy else None, autocast(frames.device.type)
        self.replays: list[tuple[float, Tensor]] = []
        self.unrolled: tuple[StepByStep, Tensor, Tensor] | None = None

        gained = [(weight, part) for weight, part in parts if part.has_gain]
        reason = (
            "it was asked for"
            if problem.gradient_route == "step-by-step"
            else refusal(problem, [part for _, part in gained], due)
        )
        if gained and not reason:
            reason = self._collapse(gained)
        if reason:
            gained = []
        self.stepwise = [(weight, part) for weight, part in parts if (weight, part) not in gained]
        if self.stepwise and not reason:
            without = {type(part).__name__ for _, part in self.stepwise}
            reason = f"{', '.join(sorted(without))} has no time-independent gain"
        if self.stepwise and problem.gradient_route == "collapsed":
            raise ValueError(f"gradient_route='collapsed' cannot be taken: {reason}.")
        self.random: States | None = None
        if self.stepwise and not lazy:
            self.unrolled = self._unroll()
            self.logits = self.unrolled[2].detach()
        elif self.stepwise:
            self.random = problem.randomness.now()
            self.logits = simulate_in_chunks(problem, frames).logits
            if problem.randomness.moved(self.random):  # in one go, as its graph will be, to draw the same
                problem.randomness.go_back(self.random)
                with torch.no_grad():
                    self.logits = problem.run(frames, Simulate(frames.shape[0], frames.shape[1]))
        problem.seen.route = (
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
            at_mean = accumulate(at_mean, vjp(replayed, self.mean, grad), weight)
        at_frames = None if at_mean is None else (at_mean / len(self.frames)).expand_as(self.frames)
        if self.stepwise:
            if self.unrolled is None and state(self.problem) != self.state:
                raise RuntimeError("the network's weights or modes changed between its forward and backward pass.")
            with left_alone(self.problem, self.random), self.precision:
                tape, leaf, unrolled = self._unroll() if self.unrolled is None else self.unrolled
                at_frames = None if at_frames is None else at_frames.clone()
                with visiting(tape):  # checkpointed parts of the body run again
                    for weight, tape.chain in self.stepwise:
                        at_frames = accumulate(at_frames, vjp(unrolled, leaf, grad), weight)
        assert at_frames is not None
        return at_frames

    def _unroll(self) -> tuple[StepByStep, Tensor, Tensor]:
        chains = [part for _, part in self.stepwise]
        time_steps, batch = self.frames.shape[:2]
        tape = StepByStep(time_steps, batch, chains[0], chains if self.due.layers else ())
        leaf = self.frames.detach().requires_grad_()
        with torch.enable_grad():
            return tape, leaf, self.problem.run(leaf, tape)

    def _collapse(self, gained: list[tuple[float, BackwardChain]]) -> str:
        """Simulate, and replay for each chain; the reason if body or chains refuse."""
        problem, due, chains = self.problem, self.due, [part for _, part in gained]
        random = problem.randomness.now()
        try:
            averages = len(AVERAGES) if due.numbers else 0
            self.logits, visits, showed = simulate_in_chunks(problem, self.frames, chains, averages, due.layers)
            for index, (weight, _) in enumerate(gained):
                self.replays.append((weight, replay(problem, self.mean, visits, index)))
            if due.numbers:
                replayed = self.replays[0][1]
                compare_numbers(problem, self.mean, visits, self.logits, replayed, len(self.frames))
        except (NotAffine, NotItsGain) as reason:
            self.replays.clear()
            problem.randomness.go_back(random)
            remember(problem, reason, due)
            return str(reason)
        if due.numbers:
            problem.seen.refusals.pop(due.modes, None)
        if due.layers:
            note(problem, due, showed)
        return ""


def accumulate(total: Tensor | None, grad: Tensor, weight: float) -> Tensor:
    if total is None:
        return grad * weight if weight != 1.0 else grad
    return total.add_(grad, alpha=weight)


def _look_after(problem: Problem, chain: BackwardChain, frames: Tensor, grad_logits: Tensor, grad: Tensor) -> None:
    """Keep how many samples a gradient can move; say it if the network lets nothing through."""
    zero, broken = stuck(grad)
    without, _ = stuck(grad_logits)
    blocked = (zero | broken) & ~without
    names: tuple[str, ...] = ()
    if bool(blocked.any()):
        if broken.any():
            check_weights(problem, anew=True)
        names = _silent(problem, frames[:, blocked.nonzero().flatten()[:LOOKED_AT]])
    problem.seen.health = GradientHealth(
        repr(chain), len(grad), int(zero.sum()), int((zero & without).sum()), int(broken.sum()), names
    )
    if bool(blocked.any()):
        warn_of_health(problem)


def warn_of_health(problem: Problem) -> None:
    """Say, once, that the last gradient could not move some samples.

    :param problem: The network, as the engine sees it.
    """
    if not problem.seen.warned:
        problem.seen.warned = True
        logger.warning(
            "Attacks stand still on some samples: %s. Robustness that is measured so is none. (Said once; "
            "SpikingNetwork.health tells it of every gradient.)",
            problem.seen.health,
        )


def _silent(problem: Problem, frames: Tensor) -> tuple[str, ...]:
    """Names of the spiking layers that fire for one of these samples at no step."""
    simulate = Simulate(frames.shape[0], frames.shape[1], averages=1)
    try:
        with left_alone(problem, problem.randomness.states), torch.no_grad():
            problem.run(frames, simulate)
    except ValueError:  # a body that runs at its own batch size only
        return ()
    names = {module: f"body.{name}" for name, module in problem.body.named_modules()}
    found = [layer for layer, (rate,) in simulate.visits if bool((rate.flatten(1).amax(1) == 0).any())]
    return tuple(dict.fromkeys(names.get(layer, type(layer).__name__) for layer in found))
