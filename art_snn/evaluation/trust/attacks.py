"""Does more attack find more, and less not?

`single-beats-iterated`: one step fools what many do not. `not-monotone`: the success rate falls as ε grows, or does not
come to all as the ball comes to be the whole range. `unfinished`: the loss still grows at the end of the steps, or more
of them fool more. `silent-success`: an iterate fools and the last one does not, in an attack that returns the last, as
ART's PGD does; attacks of our own do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_snn.attacks import SAPGD
from art_snn.attacks.losses import margin
from art_snn.attacks.stepped import Memory, SteppedAttack
from art_snn.attacks.table import differentiates
from art_snn.chains import HART, AdaptiveHART, BackwardChain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation.flag import Flag
from art_snn.evaluation.plan import Member
from art_snn.evaluation.trust.sample import Sample, percent

#: Share of the samples that one step may fool and an iterated attack not: its start is a random one.
SINGLE = 0.02

#: By how much the success rate may fall from one ε to the next, and how high it must come.
FALL, ALL = 0.02, 0.99

#: Share of the range of the loss that the last tenth of the steps may still gain, and of the samples that restarts and
#: twice the steps may still fool.
GAIN, MORE = 0.05, 0.05

#: Share of the samples that an attack may have fooled on its way, without saying so in the end.
LOST = 0.05

#: Steps of the attacks that are only there to be compared, and the least of one that is to find what others left.
STEPS, LONG = 20, 100


def flags(sample: Sample, left: Sample, members: Sequence[Member]) -> list[Flag]:
    """
    :param sample: What is examined.
    :param left: Samples that survived all that was tried.
    :param members: What was tried.
    :return: The flags of this module.
    """
    found = [_single(sample), _monotone(sample), _unfinished(sample, left, longest(members))]
    returning = [member for member in members if not member.is_stepped and steps_of(member) > 1]
    return found + ([_silent(sample, max(returning, key=steps_of))] if returning else [])


class _Watched:
    """What an attack's iterates did, sample by sample.

    :param margins: How far each iterate is beyond being fooled, `(steps + 1, n)`.
    """

    def __init__(self, margins: np.ndarray) -> None:
        self.margins = margins

    @property
    def ever(self) -> np.ndarray:
        """Which samples some iterate fools."""
        return np.asarray((self.margins > 0).any(0))

    @property
    def last(self) -> np.ndarray:
        """Which the last one fools."""
        return np.asarray(self.margins[-1] > 0)

    @classmethod
    def on(
        cls, sample: Sample, kind: Callable[..., _Tracing], steps: int, chain: BackwardChain | None = None
    ) -> _Watched:
        """Run one to its last step on all samples."""
        parts = []
        for start in range(0, len(sample.x), sample.batch_size):
            part = slice(start, start + sample.batch_size)
            attack: Any = kind(
                sample.classifier,
                norm=sample.norm,
                eps=sample.eps,
                max_iter=steps,
                batch_size=sample.batch_size,
                until_fooled=False,
                seed=sample.seed,
                verbose=False,
            )
            with along(sample.classifier, chain or HART()):
                attack.generate(sample.x[part], sample.labels[part])
            parts.append(np.stack(attack.seen))
        return cls(np.concatenate(parts, axis=1))


def along(classifier: PyTorchClassifier, chain: BackwardChain) -> AbstractContextManager[None]:
    """
    :param classifier: A classifier.
    :param chain: A chain, which one without spikes has not.
    :return: A block in which attacks follow it.
    """
    return classifier.following(chain) if isinstance(classifier, PyTorchSNNClassifier) else nullcontext()


class _Tracing(SteppedAttack):
    """An attack that notes how far each iterate is beyond being fooled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[np.ndarray] = []

    def _look(
        self, best: Any, left: Tensor, rows: Tensor, x: Tensor, labels: Tensor, found: Tensor, *rest: Any
    ) -> None:
        self.seen.append(margin(found, labels[left[rows]]).cpu().numpy())
        super()._look(best, left, rows, x, labels, found, *rest)


class _LongSAPGD(_Tracing, SAPGD):
    """SA-PGD, watched."""


class _LastOfPGD(_Tracing):
    """PGD without a random start, as attacks that return their last iterate go.

    :param size: Size of a step, in ε.
    """

    def __init__(self, *args: Any, size: float = 0.25, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.size = size

    def begin(self, x: Tensor) -> Memory:
        return ()

    def step(self, grad: Tensor, memory: Memory, number: int) -> tuple[Tensor, Memory]:
        return self.size * self.eps * _direction(grad, self.norm), memory

    def first(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        return x.clone()


def _direction(grad: Tensor, norm: float | str) -> Tensor:
    if norm != 2:
        return grad.sign()
    length = grad.flatten(1).norm(dim=1).clamp(min=1e-30)
    return grad / length.view(-1, *[1] * (grad.dim() - 1))


def _single(sample: Sample) -> Flag:
    iterated = _Watched.on(sample, _LastOfPGD, STEPS)
    one = _Watched.on(sample, partial(_LastOfPGD, size=1.0), 1).last
    share = float((one & ~iterated.ever).mean())
    meaning = (
        f"one step of ε fools {percent(share)} of the samples that {STEPS} steps do not: the steps are led astray, and "
        "what they leave is not robust."
    )
    return Flag("single-beats-iterated", share, SINGLE, meaning, share > SINGLE)


def _monotone(sample: Sample) -> Flag:
    span, rates, eps = _span(sample), [], sample.eps
    whole = span if sample.norm == np.inf else span * math.sqrt(sample.x[0].size)
    balls = [eps]
    while balls[-1] < whole:
        balls.append(min(2 * balls[-1], whole))
    for eps in balls:
        found = _Watched.on(replace(sample, eps=eps), _LongSAPGD, STEPS, AdaptiveHART()).ever
        rates.append(float(found.mean()))
    fall = max((before - now for before, now in pairwise(rates)), default=0.0)
    raised = fall > FALL or rates[-1] < ALL
    meaning = (
        f"the success rate is {', '.join(percent(rate) for rate in rates)} at ε = "
        f"{', '.join(f'{ball:.3g}' for ball in balls)}, the last the whole range, where a sample can become any other: "
        + ("the attack misses what is there." if raised else "it grows to all, as it must.")
    )
    return Flag("not-monotone", rates[-1], ALL, meaning, raised)


def _span(sample: Sample) -> float:
    clip = sample.classifier.clip_values
    if clip is None:
        return float(sample.x.max() - sample.x.min())
    return float(np.max(clip[1]) - np.min(clip[0]))


def _unfinished(sample: Sample, left: Sample, steps: int) -> Flag:
    """The longest attack once more, twice as long and from another start, on what survived."""
    if not len(left.x):
        return Flag("unfinished", 0.0, MORE, "no sample survived, so that more steps have nothing to find.", False)
    more_steps = max(2 * steps, LONG)
    watched = _Watched.on(replace(left, seed=left.seed + 1), _LongSAPGD, more_steps, AdaptiveHART())
    more = float(watched.ever.sum()) / len(sample.x)
    best = np.maximum.accumulate(watched.margins, axis=0)[:, ~watched.ever].astype(np.float64)
    gain = 0.0
    if best.shape[1]:
        mean = best.mean(1)
        tenth = mean[-1] - mean[-1 - max(1, len(mean) // 10)]
        gain = float(tenth / max(mean[-1] - mean[0], 1e-30))
    raised = more > MORE or gain > GAIN
    meaning = (
        f"{more_steps} steps from another start, after {steps}, fool {percent(more)} more of the samples, and their "
        f"last tenth still gains {percent(gain)} of the range of the loss: "
        + ("the figure is of how far the attack went, not of the network." if raised else "more would change little.")
    )
    return Flag("unfinished", more, MORE, meaning, raised)


def _silent(sample: Sample, member: Member) -> Flag:
    """PGD in the steps of a member that returns its last iterate, watched."""
    size = float(member.settings.get("eps_step", sample.eps / 4)) / sample.eps
    watched = _Watched.on(sample, partial(_LastOfPGD, size=size), steps_of(member))
    share = float((watched.ever & ~watched.last).mean())
    meaning = (
        f"of {percent(share)} of the samples an iterate of PGD-{steps_of(member)} fools and the last one does not: an "
        "attack that returns its last iterate does not say so."
    )
    return Flag("silent-success", share, LOST, meaning, share > LOST)


def steps_of(member: Member) -> int:
    """
    :param member: A member of a plan.
    :return: Its steps along a gradient, 0 if it follows none.
    """
    return int(member.settings.get("max_iter", 1)) if differentiates(member.attack) else 0


def longest(members: Sequence[Member]) -> int:
    """
    :param members: Members of a plan.
    :return: Steps of the longest along a gradient.
    """
    return max([1, *map(steps_of, members)])
