"""Which route a gradient takes, and why.

Three routes lead from a gradient at the logits to one at the input: `collapsed` (:mod:`art_snn.engine.collapse`),
`step-by-step` (:mod:`art_snn.engine.unroll`) and `activation` (:mod:`art_snn.engine.activation`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.engine.activation import activation, native
from art_snn.engine.affine import NotAffine
from art_snn.engine.chunk import Simulated, batch_chunks, simulate_in_chunks
from art_snn.engine.claims import NotItsGain
from art_snn.engine.collapse import (
    adjoint_check,
    alone,
    average_check,
    replay,
    side_by_side,
    spread_check,
    tiled,
    vjp,
)
from art_snn.engine.compare import Due, due, note, refusal, remember
from art_snn.engine.isolate import autocast, check_weights, left_alone, state
from art_snn.engine.layout import over_time
from art_snn.engine.problem import Problem, Pullback, Route, Shared, named
from art_snn.engine.unroll import Unrolled
from art_snn.engine.visit import AVERAGES, Rule, Simulate
from art_snn.health import GradientHealth, stuck
from art_snn.neurons import NoGain

logger = logging.getLogger(__name__)


#: Samples without a gradient in which it is looked for the layers that never fired.
LOOKED_AT = 4


class AttackGradient(torch.autograd.Function):
    """The network as a function of its input alone, differentiated along a chain."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, problem: Problem, chain: BackwardChain) -> Tensor:
        ctx.linear, ctx.chain = linearise(problem, x.detach(), chain), chain
        return ctx.linear.logits.clone()  # others may share it

    @staticmethod
    def backward(ctx: Any, grad_logits: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "a backward chain has no second derivative: the input's gradient cannot be differentiated."
            )
        return ctx.linear.pull(_defined(grad_logits), ctx.chain), None, None


@contextmanager
def sharing(problem: Problem, chains: Sequence[BackwardChain]) -> Iterator[None]:
    """Inside the block gradients along these chains, at the input that comes first, come out of one simulation.

    :param problem: The network, as the engine sees it.
    :param chains: The chains; one that follows no simulation has its own pass all the same.
    """
    before, problem.seen.shared = problem.seen.shared, Shared(tuple(chains))
    try:
        yield
    finally:
        problem.seen.shared = before


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


def linearise(problem: Problem, x: Tensor, chain: BackwardChain) -> Linear:
    """Run the network on `x` and prepare its backward pass along `chain`; the network is left as it was.

    :param problem: The network, as the engine sees it.
    :param x: Input `(B, ...)`, without a graph.
    :param chain: The backward chain.
    :return: Its logits, and the way back from there.
    :raises ValueError: If the chain mixes CBA with others, or a forced route cannot be taken.
    """
    parts = list(chain.parts())
    alone = [type(part).__name__ for _, part in parts if part.stands_apart]
    if alone and len(parts) > 1:
        raise ValueError(
            f"chain mixes {alone[0]} with other chains: {alone[0]} takes the loss at the logits of a pass of its own, "
            "so no single forward pass serves both. PyTorchSNNClassifier.loss_gradient and class_gradient add their "
            "gradients; attacks that differentiate the model itself need a mixture without it."
        )
    shared = problem.seen.shared
    if alone or shared is None or chain not in shared.chains:
        return Linear(problem, x, [chain])
    now = state(problem)
    if shared.x is None:
        follow = [one for one in shared.chains if not any(part.stands_apart for _, part in one.parts())]
        shared.x, shared.state, shared.made = x.clone(), now, Linear(problem, x, follow)
    elif shared.state != now or not torch.equal(shared.x, x):  # the next step of an attack, each chain at its own
        return Linear(problem, x, [chain])
    shared.made.note(chain)
    return shared.made


class Linear:
    """The network at an input, and the way back from its logits along any of some chains.

    :param problem: The network, as the engine sees it; it is left as it was.
    :param x: Input `(B, ...)`, without a graph.
    :param chains: The chains; one that follows no simulation stands alone.
    """

    def __init__(self, problem: Problem, x: Tensor, chains: Sequence[BackwardChain]) -> None:
        self.problem = problem
        parts = [part for chain in chains for _, part in chain.parts()]
        self.leaf = x.clone().requires_grad_()
        self.rules: list[Rule] = []
        self.pieces: list[_Piece] = []
        self.pull_apart: Pullback | None = None
        with left_alone(problem):
            with torch.enable_grad():
                self.frames = problem.frames(self.leaf)
            if not self.frames.requires_grad:
                raise ValueError("encoder gives frames without a gradient in the input.")
            if parts[0].has_activation:
                #: Logits `(B, K)`; for CBA, the activation network's.
                self.logits, self.pull_apart = activation(problem, self.frames, parts[0])
            elif parts[0].is_native:
                self.logits, self.pull_apart = native(problem, self.frames)
            else:
                self._simulate(parts)
        if not self.pull_apart:
            self.note(chains[0])

    def _simulate(self, parts: Sequence[BackwardChain]) -> None:
        """All chains that follow the simulation: collapsed where that is exact, step by step otherwise."""
        problem, frames = self.problem, self.frames.detach()
        different: list[BackwardChain] = []
        different.extend(part for part in parts if part not in different)
        self.rules = [Rule(part, frames.shape[1]) for part in different]
        compare = due(problem, frames, different)
        gained = [part for part in different if part.has_gain]
        refused = problem.gradient_route == "step-by-step" or bool(refusal(problem, gained, compare))
        replays = 0 if refused else len(gained)
        self.chunks = batch_chunks(problem, frames, graph=replays < len(different), replays=replays)
        self.pieces = [
            _Piece(problem, frames[:, chunk], self.rules, len(self.chunks) > 1, compare, chunk.start)
            for chunk in self.chunks
        ]
        self.logits = torch.cat([piece.logits for piece in self.pieces])

    def note(self, chain: BackwardChain) -> None:
        """Keep by which route a chain goes."""
        rules = [rule for _, rule in self._wanted(chain)]
        for piece in self.pieces:
            self.problem.seen.route = piece.route(rules)

    def pull(self, grad: Tensor, chain: BackwardChain) -> Tensor:
        """
        :param grad: Gradient at the logits `(B, K)`.
        :param chain: One of the chains.
        :return: Gradient at the input `(B, ...)`; it may be asked for any number of times.
        """
        wanted = self._wanted(chain)
        if self.pull_apart is not None:
            at_frames = self.pull_apart(grad)
        else:
            pulled = [piece.pull(grad[chunk], wanted) for piece, chunk in zip(self.pieces, self.chunks, strict=True)]
            at_frames = torch.cat(pulled, 1)
            for _, rule in wanted:
                if rule.moment is not None:
                    rule.moment.leave()
        reached = torch.autograd.grad(self.frames, self.leaf, at_frames, retain_graph=True)[0].contiguous()
        _look_after(self.problem, chain, self.frames.detach(), grad, reached)
        return reached

    def _wanted(self, chain: BackwardChain) -> list[tuple[float, Rule]]:
        """The parts of a chain, weighted, as they are followed here."""
        return [
            (weight, next(rule for rule in self.rules if rule.chain == part))
            for weight, part in chain.parts()
            if not part.stands_apart
        ]


class _Piece:
    """A part of the batch: its logits, and the way back to its encoded frames.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, b, ...)`, without a graph.
    :param rules: The chains.
    :param lazy: Build a step-by-step graph only when it is pulled back, and drop it then, so that the graphs of many
        pieces do not pile up.
    :param due: What is to be compared.
    :param first: Place of its first sample in the batch.
    """

    def __init__(
        self, problem: Problem, frames: Tensor, rules: Sequence[Rule], lazy: bool, due: Due, first: int
    ) -> None:
        self.problem, self.frames, self.lazy, self.due, self.first = problem, frames, lazy, due, first
        self.state, self.precision = state(problem) if lazy else None, autocast(frames.device.type)
        self.random = problem.randomness.now()
        self.unrolled: Unrolled | None = None
        self.collapsed: Collapsed | None = None
        gained = [rule for rule in rules if rule.chain.has_gain]
        self.stepwise = [rule for rule in rules if rule not in gained]
        self.reason = "it was asked for" if problem.gradient_route == "step-by-step" else ""
        self.reason = self.reason or refusal(problem, [rule.chain for rule in gained], due)
        if gained and not self.reason:
            self.reason = self._collapse(gained)
        if self.collapsed is None:
            self.stepwise = list(rules)
            if self.unrolled is None:
                self._simulate([], 0)
        if self.stepwise and problem.gradient_route == "collapsed":
            raise ValueError(f"gradient_route='collapsed' cannot be taken: {self.route(self.stepwise).reason}.")

    def route(self, rules: Sequence[Rule]) -> Route:
        """
        :param rules: Some of the chains.
        :return: How they are followed, and why.
        """
        stepwise = [rule for rule in rules if rule in self.stepwise]
        if not stepwise:
            return Route("collapsed", "the layers between spiking layers are affine")
        without = {type(rule.chain).__name__ for rule in stepwise}
        return Route("step-by-step", self.reason or f"{', '.join(sorted(without))} has no time-independent gain")

    def pull(self, grad: Tensor, wanted: Sequence[tuple[float, Rule]]) -> Tensor:
        """
        :param grad: Gradient at the logits `(b, K)`.
        :param wanted: The chains that are followed, weighted.
        :return: Gradient at the frames `(T, b, ...)`.
        """
        at_mean: Tensor | None = None
        for weight, rule in wanted:
            if self.collapsed is not None and rule in self.collapsed.rules:
                at_mean = accumulate(at_mean, self.collapsed.pull(rule, grad), weight)
        at_frames = None if at_mean is None else (at_mean / len(self.frames)).expand_as(self.frames)
        stepwise = [(weight, rule) for weight, rule in wanted if rule in self.stepwise]
        if stepwise:
            if self.lazy and state(self.problem) != self.state:
                raise RuntimeError("the network's weights or modes changed between its forward and backward pass.")
            with left_alone(self.problem, self.random if self.lazy else None), self.precision:
                unrolled = self.unrolled or self._unroll(self._visitor([], 0))
                at_frames = None if at_frames is None else at_frames.clone()
                for weight, rule in stepwise:
                    at_frames = accumulate(at_frames, unrolled.pull(rule, grad), weight)
        assert at_frames is not None
        return at_frames

    def _visitor(self, gained: Sequence[Rule], averages: int) -> Simulate:
        time_steps, batch = self.frames.shape[:2]
        return Simulate(time_steps, batch, gained, averages, self.due.layers, self.first, self.problem.layout)

    def _unroll(self, simulate: Simulate) -> Unrolled:
        return Unrolled(self.problem, self.frames, simulate, self.stepwise, self.due.layers)

    def _simulate(self, gained: Sequence[Rule], averages: int) -> Simulated:
        """Logits, and the gains of some chains: out of the graph that others will cross, if one is built now."""
        problem = self.problem
        simulate = self._visitor(gained, averages)
        if self.stepwise and not self.lazy:
            self.unrolled = self._unroll(simulate)
            simulated = Simulated(self.unrolled.logits.detach(), simulate.visits, simulate.showed)
        else:
            simulated = simulate_in_chunks(problem, self.frames, gained, averages, self.due.layers, self.first)
            if self.stepwise and problem.randomness.moved(self.random):  # in one go, as its graph will be
                problem.randomness.go_back(self.random)
                with torch.no_grad():
                    logits = problem.run(self.frames, simulate)
                    simulate.finish()
                simulated = Simulated(logits, simulate.visits, simulate.showed)
        self.logits = simulated.logits
        return simulated

    def _collapse(self, gained: Sequence[Rule]) -> str:
        """Simulate, and replay for each chain; the reason if body or chains refuse."""
        problem, due = self.problem, self.due
        try:
            simulated = self._simulate(gained, len(AVERAGES) if due.numbers else 0)
            self.collapsed = Collapsed(problem, self.frames, gained, simulated, due.numbers)
        except (NotAffine, NotItsGain, NoGain) as reason:
            self.unrolled = None
            problem.randomness.go_back(self.random)
            remember(problem, reason, due)
            return str(reason)
        if due.numbers:
            problem.seen.refusals.pop(due.modes, None)
        if due.layers:
            note(problem, due, simulated.showed)
        return ""


class Collapsed:
    """The replays of some chains, side by side in one batch: weights are read once, and layers run as large batches do.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, b, ...)`, without a graph.
    :param rules: The chains, n of them.
    :param simulated: What a simulation of them left, the gains of the chains among it.
    :param numbers: Whether to compare numbers, whatever is known of the operations.
    :raises NotAffine: If the body cannot be replayed, or something is not as it should be.
    """

    def __init__(
        self, problem: Problem, frames: Tensor, rules: Sequence[Rule], simulated: Simulated, numbers: bool
    ) -> None:
        self.rules = list(rules)
        mean, self.copies = over_time(frames), max(len(rules), alone(problem, frames))
        visits = side_by_side(simulated.visits, len(rules), self.copies)
        self.leaf = tiled(mean, self.copies).requires_grad_()
        self.out = replay(problem, self.leaf, visits)
        #: Gradients at the logits, and what they came to for each chain.
        self.pulled: list[tuple[Tensor, Sequence[Tensor]]] = []
        if numbers:
            spread_check(problem, mean, simulated.visits, len(frames))
            average_check(problem, mean, simulated.visits, simulated.logits)
            adjoint_check(problem, mean, simulated.visits)

    def pull(self, rule: Rule, grad: Tensor) -> Tensor:
        """
        :param rule: One of the chains.
        :param grad: Gradient at the logits `(b, K)`. They are the same for all chains, so that a loss is likely to be
            asked for along each: all are pulled at once, and kept.
        :return: Gradient at the mean over time of the frames `(b, ...)`.
        """
        found = next((found for known, found in self.pulled if torch.equal(known, grad)), None)
        if found is None:
            found = vjp(self.out, self.leaf, tiled(grad, self.copies)).chunk(self.copies)
            if len(self.rules) > 1:
                self.pulled.append((grad.clone(), found))
        return found[self.rules.index(rule)].clone()


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
    simulate = Simulate(frames.shape[0], frames.shape[1], averages=1, layout=problem.layout)
    try:
        with left_alone(problem, problem.randomness.states), torch.no_grad():
            problem.run(frames, simulate)
            simulate.finish()
    except ValueError:  # a body that runs at its own batch size only
        return ()
    found = [layer for layer, (rate,) in simulate.visits if bool((rate.flatten(1).abs().amax(1) == 0).any())]
    return tuple(dict.fromkeys(named(problem, layer) for layer in found))
