"""May a body be collapsed over time? By numbers, whatever is known of its operations; and what was seen of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.engine.affine import CannotRun, NotAffine
from art_snn.engine.claims import NotItsGain
from art_snn.engine.isolate import modes
from art_snn.engine.problem import Modes, Problem, Refusal
from art_snn.engine.visit import Revisit, Visits
from art_snn.neurons import NoGain, SpikingLayer

logger = logging.getLogger(__name__)


#: How far what the body makes of a mean over time may be from the mean over time of what it makes, in units of a
#: neuron's largest: more than rounding does, TF32's included, and less than any error that matters.
ROUNDING = 1e-2
#: The same in units of the largest of a whole layer, for sums that cancel.
CANCELLED = 1e-4


class Due(NamedTuple):
    """What is to be compared at this gradient: at the 1st, 2nd, 4th, 8th ... of its kind, for ever.

    :param numbers: What the body makes at batch size B with what it makes over all steps.
    :param layers: What layers and chains say of themselves with what they do.
    :param modes: The modes of the network's layers, see :func:`modes`.
    :param kind: The kind of this gradient, for layers and chains, and how many there were before.
    """

    numbers: bool
    layers: bool
    modes: Modes
    kind: tuple[Any, int]


def due(problem: Problem, frames: Tensor, chains: Sequence[BackwardChain]) -> Due:
    """
    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`.
    :param chains: The chains that are followed.
    :return: What is to be compared at this gradient.
    """
    now = modes(problem)
    # Numbers are compared where something may be collapsed: gradients that nobody would collapse do not count.
    kinds = ((now, *frames.shape[:2], any(chain.has_gain for chain in chains)), (now, frozenset(map(repr, chains))))
    counted = [problem.seen.gradients.get(kind, 0) + 1 for kind in kinds]
    problem.seen.gradients.update(zip(kinds, counted, strict=True))
    numbers, layers = (number & (number - 1) == 0 for number in counted)
    return Due(numbers, layers, now, (kinds[1], counted[1] - 1))


def refusal(problem: Problem, chains: Sequence[BackwardChain], compare: Due) -> str:
    """
    :param problem: The network, as the engine sees it.
    :param chains: The chains that are to be collapsed.
    :param compare: What is compared; where numbers are, a body that could not run at batch size B may try again.
    :return: Why it, in its present modes, or one of them was refused a collapse before; empty if none was.
    """
    if not problem.seen.refusals:
        return ""
    now = compare.modes
    found = [problem.seen.refusals.get(key) for key in (now, *((now, repr(chain)) for chain in chains))]
    return next((one.reason for one in found if one and not (compare.numbers and one.may_try_again)), "")


def remember(problem: Problem, reason: Exception, compare: Due) -> None:
    """Keep, and say once, that the network in its present modes, or a chain, cannot be collapsed over time.

    :param problem: The network, as the engine sees it.
    :param reason: Why.
    :param compare: What was compared.
    """
    chain = reason.chain if isinstance(reason, (NotItsGain, NoGain)) else None
    key = compare.modes if chain is None else (compare.modes, repr(chain))
    problem.seen.refusals[key] = Refusal(str(reason), isinstance(reason, (CannotRun, NoGain)))
    if str(reason) not in problem.seen.said:
        problem.seen.said.add(str(reason))
        level = logging.WARNING if isinstance(reason, NotItsGain) else logging.INFO
        logger.log(level, "The gradient is taken step by step, not collapsed over time: %s.", reason)


def note(problem: Problem, compare: Due, showed: bool) -> None:
    """Note what a comparison of layers and chains showed; until one shows something, the next gradient has one too.

    :param problem: The network, as the engine sees it.
    :param compare: What was compared.
    :param showed: Whether every layer fired.
    """
    kind, before = compare.kind
    if showed:
        problem.seen.shown.add(kind)
    elif kind not in problem.seen.shown:
        problem.seen.gradients[kind] = before


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
        wrong = torch.stack([differ(*one) for one in (*self.met, (out, logits, logits.abs().max().expand_as(logits)))])
        if wrong.any():
            place = int(wrong.nonzero()[0])
            what = "the output" if place == len(self.met) else f"the current of spiking layer {place + 1}"
            raise NotAffine(f"{what} is not its mean over time: something changes with the time step or batch size")


def differ(found: Tensor, mean: Tensor, largest: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Whether one is further from the other, where that is finite, than rounding in `dtype` may take it."""
    eps, device = torch.finfo(dtype or found.dtype).eps, found.device.type
    if torch.is_autocast_enabled(device):
        eps = max(eps, torch.finfo(torch.get_autocast_dtype(device)).eps)
    largest = torch.nan_to_num(largest, 0.0, 0.0)
    # Of the largest of its own, and for what cancels within a sum a little of the layer's; TF32 rounds more.
    cancelled = ROUNDING if device == "cuda" else CANCELLED
    allowed = max(ROUNDING, 32 * eps) * largest + max(cancelled, 32 * eps) * largest.max()
    return (torch.where(torch.isfinite(mean), (found - mean).abs(), 0.0) > allowed).any() | torch.isnan(
        torch.where(torch.isfinite(mean), found, 0.0)
    ).any()
