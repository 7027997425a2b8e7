"""The worst case over a plan: only samples that survive a member go on to the next.

What one member finds, and what of it counts, is in `attempt`. A member's random numbers go by the seed, the member and
the sample, so that the order of the members changes the time and not the outcome.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from art.estimators.classification import PyTorchClassifier
from tqdm.auto import tqdm

from art_snn.attacks.checks import check_eps, check_whole, class_indices
from art_snn.attacks.gradient import check_outputs
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation.attempt import ROUNDING, attempt, majority
from art_snn.evaluation.flag import Flag
from art_snn.evaluation.plan import PLANS, Member
from art_snn.evaluation.result import BEFORE, NOTHING, WorstCase
from art_snn.evaluation.trust import examine, of_worst_case
from art_snn.evaluation.trust.predictions import is_random
from art_snn.files import replacing
from art_snn.identity import of_arrays, of_network, versions

#: Where predictions are random: how often each result is predicted, and over how many draws a gradient is averaged.
REPEATS, AVERAGED = 9, 8

#: How much time may pass before what was found is kept.
SECONDS = 30.0


def evaluate(
    classifier: PyTorchClassifier,
    x: np.ndarray,
    y: np.ndarray,
    *,
    eps: float,
    norm: float | str = np.inf,
    plan: str | Sequence[Member] = "standard",
    second: PyTorchClassifier | None = None,
    every: bool = False,
    batch_size: int = 128,
    seed: int = 0,
    samples: np.ndarray | None = None,
    folder: str | Path | None = None,
    flags: bool = True,
    claimed: float | None = None,
    verbose: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> WorstCase:
    """The worst case over all members of a plan, for each sample by itself.

    :param classifier: What is attacked; a spiking one follows each member's chain, and has its own again afterwards.
    :param x: Inputs `(N, *input_shape)`.
    :param y: True labels, one-hot `(N, K)` or classes `(N,)`.
    :param eps: ε > 0, on the data's scale.
    :param norm: `numpy.inf` or `"inf"`, or 2.
    :param plan: `"standard"`, `"fast"`, or a list of members.
    :param second: Another classifier for the same inputs, whose adversarial inputs are shown to the first; members that
        need one are left out without it.
    :param every: Run every member on every sample that is classified correctly, not on those only that survive: slower,
        and it says what each member is good for by itself.
    :param batch_size: Samples of one batch, which bounds the memory.
    :param seed: Seed of all random numbers of the attacks.
    :param samples: A number for each sample by which its random numbers go, so that parts of a data set may be
        evaluated one by one; 0 to N - 1 when not given.
    :param folder: Where what is finished is kept, in a file of this evaluation's own: the same call goes on there, or
        has its result from there; nowhere when not given.
    :param flags: Whether to examine, on some of the samples, if the figure can be trusted: `checks` and `flags` of the
        result. It takes about as long as a few hundred predictions of all of them.
    :param claimed: A difference of robust accuracies, from 0 to 1, that is to be shown, if there is one.
    :param verbose: Whether to show the progress.
    :param advance: Called after each member.
    :return: What was found.
    :raises ValueError: If an argument is out of its range, or a member cannot run on this classifier.
    """
    if norm not in ("inf", np.inf, 2):
        raise ValueError(f'norm must be numpy.inf, "inf" or 2, got {norm!r}.')
    within = float(norm)
    _check(classifier, x, eps, batch_size, seed, second)
    name, members = _members(plan, classifier, within, second)
    x = np.array(x, dtype=np.float32)
    labels = class_indices(y, len(x), classifier.nb_classes)
    logits = np.asarray(classifier.predict(x, batch_size=batch_size))
    check_outputs(logits.shape[1])
    numbers = _numbers(samples, len(x))
    repeats = REPEATS if is_random(classifier, x[:batch_size]) else 1
    clean = logits.argmax(1) if repeats == 1 else majority(classifier, x, repeats, batch_size)
    state = _State(x, labels, logits, clean, numbers, len(members), every)
    settings = (name, eps, within, every, seed, batch_size, of_arrays(numbers))
    kept = _Kept(folder, settings, members, classifier, second, x, labels)
    kept.restore(state)
    given = {"eps": eps, "norm": within, "seed": seed, "repeats": repeats}
    bar = tqdm(total=len(x) * len(members), desc="worst case", unit="sample", disable=not verbose)
    with bar, _averaging(classifier if repeats > 1 else None):
        for number, member in enumerate(members):
            bar.set_postfix_str(f"{int((state.fooled_by == NOTHING).sum())} robust, {member}"[:100])
            rows = np.flatnonzero(state.left(number) & ~state.done[number])
            bar.update(len(x) - len(rows))
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                _attack(state, number, member, batch, classifier, second, **given)
                kept.save(state, done=start + batch_size >= len(rows))
                bar.update(len(batch))
            advance()
    found = WorstCase(
        name,
        [member.name for member in members],
        ["" if member.chain is None else repr(member.chain) for member in members],
        float(eps),
        f"{within:g}",
        seed,
        labels,
        clean,
        state.adversarial,
        state.fooled_by,
        state.x_adv,
        state.distances,
        state.done.sum(1).tolist(),
        state.seconds.tolist(),
        state.invalid.tolist(),
        state.each if every else None,
        versions(),
        _repeated(classifier, state, batch_size) if repeats > 1 else None,
    )
    if flags:
        found.checks = [*of_worst_case(found, members, claimed), *examined(classifier, x, found, members, batch_size)]
    return found


def examined(
    classifier: PyTorchClassifier, x: np.ndarray, worst: WorstCase, members: Sequence[Member], batch_size: int = 128
) -> list[Flag]:
    """
    :param classifier: What was attacked.
    :param x: Inputs `(N, *input_shape)`.
    :param worst: Their worst case.
    :param members: The members over which it was taken.
    :param batch_size: Samples of one batch.
    :return: The flags that are measured on the classifier.
    """
    return examine(
        classifier,
        x,
        worst.labels,
        eps=worst.eps,
        norm=float(worst.norm),
        seed=worst.seed,
        correct=worst.fooled_by != BEFORE,
        left=worst.fooled_by == NOTHING,
        members=members,
        batch_size=batch_size,
    )


@contextmanager
def _averaging(classifier: Any) -> Iterator[None]:
    """Gradients are means over draws inside the block."""
    if not isinstance(classifier, PyTorchSNNClassifier):
        yield
        return
    before = classifier.gradient_samples
    classifier.gradient_samples = max(before, AVERAGED)
    try:
        yield
    finally:
        classifier.gradient_samples = before


def _repeated(classifier: Any, state: _State, batch_size: int) -> tuple[float, float]:
    """The lowest and the highest robust accuracy over single predictions, of what was found."""
    rates = [
        float((classifier.predict(state.x_adv, batch_size=batch_size).argmax(1) == state.labels).mean())
        for _ in range(REPEATS)
    ]
    return min(rates), max(rates)


class _State:
    """What is known of the samples so far."""

    def __init__(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        logits: np.ndarray,
        clean: np.ndarray,
        samples: np.ndarray,
        members: int,
        every: bool,
    ) -> None:
        self.x, self.labels, self.logits, self.samples, self.is_for_every = x, labels, logits, samples, every
        self.x_adv, self.distances = x.copy(), np.zeros(len(x))
        self.adversarial = clean.copy()
        self.fooled_by = np.where(self.adversarial == labels, NOTHING, BEFORE)
        self.each = np.zeros((members, len(x)), dtype=bool)
        self.done = np.zeros((members, len(x)), dtype=bool)
        self.seconds, self.invalid = np.zeros(members), np.zeros(members, dtype=np.int64)

    def left(self, number: int) -> np.ndarray:
        """Which samples a member is tried on: those that no other fooled, or all."""
        return (self.fooled_by == NOTHING) | (self.is_for_every & (self.fooled_by != BEFORE)) | self.done[number]

    def arrays(self) -> dict[str, np.ndarray]:
        names = ("x_adv", "distances", "adversarial", "fooled_by", "each", "done", "seconds", "invalid")
        return {name: getattr(self, name) for name in names}


def _attack(
    state: _State, number: int, member: Member, batch: np.ndarray, classifier: Any, second: Any, **given: Any
) -> None:
    """One member on one batch."""
    begun = time.perf_counter()
    found = attempt(
        member,
        classifier,
        second,
        state.x[batch],
        state.labels[batch],
        samples=state.samples[batch],
        logits=state.logits[batch],
        **given,
    )
    hit = batch[found.fooled]
    state.each[number, hit] = True
    new = found.fooled & (state.fooled_by[batch] == NOTHING)
    rows = batch[new]
    state.x_adv[rows], state.distances[rows] = found.x[new], found.distances[new]
    state.adversarial[rows], state.fooled_by[rows] = found.predicted[new], number
    state.invalid[number] += found.invalid
    state.done[number, batch] = True
    state.seconds[number] += time.perf_counter() - begun


class _Kept:
    """What an interrupted evaluation found, if it is the same evaluation."""

    def __init__(
        self,
        folder: str | Path | None,
        settings: tuple[Any, ...],
        members: Sequence[Member],
        classifier: Any,
        second: Any,
        x: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        self.path: Path | None = None
        self.saved = time.monotonic()
        if folder is None:
            return
        said = [*map(str, settings), *map(str, members), of_arrays(x), of_arrays(labels), *sorted(versions().items())]
        digest = hashlib.sha256(json.dumps(said).encode())
        for each in filter(None, (classifier, second)):
            digest.update(f"{each.clip_values}{each.input_shape}".encode() + of_network(each.model))
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.path = Path(folder) / f"worst-case-{digest.hexdigest()[:16]}.npz"

    def restore(self, state: _State) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            with np.load(self.path) as file:
                found = {name: file[name] for name in state.arrays()}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{self.path} cannot be read ({error}): delete it to begin anew.") from None
        for name, value in state.arrays().items():
            if found[name].shape != value.shape:
                raise ValueError(f"{self.path} is of other samples: delete it to begin anew.")
        if ((found["fooled_by"] == BEFORE) != (state.fooled_by == BEFORE)).any():
            raise ValueError(f"{self.path} is of other predictions: delete it to begin anew.")
        for name, value in found.items():
            setattr(state, name, value)

    def save(self, state: _State, done: bool) -> None:
        """Keep all that is known: once a member is done, and of a long one not after every batch, since it is much."""
        if self.path is not None and (done or time.monotonic() - self.saved > SECONDS):
            self.saved = time.monotonic()
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                np.savez(file, **state.arrays())  # type: ignore[arg-type]


def _members(plan: str | Sequence[Member], classifier: Any, norm: float, second: Any) -> tuple[str, list[Member]]:
    """The plan in words, and what of it is run here."""
    if isinstance(plan, str):
        if plan not in PLANS:
            raise ValueError(f"plan must be one of {', '.join(PLANS)}, or a list of members, got {plan!r}.")
        return str(PLANS[plan]), PLANS[plan].members_for(classifier, second, norm)
    members = list(plan)
    if not members or not all(isinstance(member, Member) for member in members):
        raise ValueError(f"plan must be a name or a list of at least one art_snn.evaluation.Member, got {plan!r}.")
    for member in members:
        if member.source == "second" and second is None:
            raise ValueError(f"second must be given: {member} takes its gradient from there.")
        if member.targets >= classifier.nb_classes:
            raise ValueError(f"targets of {member} must be below the number of classes, {classifier.nb_classes}.")
    return f"{len(members)} members of its own", [
        member if member.chain is None else replace(member, chain=member.fitted(classifier, second).chain)
        for member in members
    ]


def _numbers(samples: np.ndarray | None, count: int) -> np.ndarray:
    """A number for each sample."""
    found = np.arange(count) if samples is None else np.asarray(samples)
    if found.shape != (count,) or found.dtype.kind not in "iu" or (found < 0).any():
        raise ValueError(f"samples must be {count} whole numbers >= 0, got {found.dtype} of shape {found.shape}.")
    return found.astype(np.int64)


def _check(classifier: Any, x: Any, eps: Any, batch_size: Any, seed: Any, second: Any) -> None:
    for name, each in (("classifier", classifier), ("second", second)):
        if not isinstance(each, PyTorchClassifier) and not (name == "second" and each is None):
            raise TypeError(
                f"{name} must be a PyTorchSNNClassifier or ART's PyTorchClassifier, got {type(each).__name__}."
            )
    if second is not None and second.input_shape != classifier.input_shape:
        raise ValueError(f"second must take inputs of {classifier.input_shape}, it takes {second.input_shape}.")
    if not isinstance(x, np.ndarray) or x.shape[1:] != tuple(classifier.input_shape) or not len(x):
        shape = getattr(x, "shape", type(x).__name__)
        raise ValueError(f"x must be an array (N, {', '.join(map(str, classifier.input_shape))}), N >= 1, got {shape}.")
    if not np.isfinite(x).all():
        raise ValueError("x must hold finite numbers, got NaN or infinity.")
    if classifier.clip_values is not None:
        low, high = classifier.clip_values
        if (x < low - ROUNDING).any() or (x > high + ROUNDING).any():
            raise ValueError(f"x must lie in clip_values {classifier.clip_values}, got {x.min()} to {x.max()}.")
    check_eps(eps)
    check_whole("batch_size", batch_size, 1)
    check_whole("seed", seed, 0)
