"""All flags of a classifier, and of a worst case that was found for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_snn.attacks.table import differentiates
from art_snn.evaluation.flag import Flag
from art_snn.evaluation.plan import Member
from art_snn.evaluation.result import WorstCase
from art_snn.evaluation.trust import attacks, gradients, planted, predictions
from art_snn.evaluation.trust.sample import Sample, percent

#: How many samples are looked at, of those that are classified correctly.
SAMPLES = 48

#: Share of all samples that a search without gradients, or another network's, may find beyond the gradients.
BEYOND = 0.002

#: Width of the interval of a robust accuracy beyond which it tells little apart, where no difference is claimed.
WIDE = 0.2


def examine(
    classifier: PyTorchClassifier,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    norm: float,
    seed: int,
    correct: np.ndarray,
    left: np.ndarray,
    members: Sequence[Member],
    batch_size: int = 128,
) -> list[Flag]:
    """
    :param classifier: The classifier.
    :param x: Inputs `(N, *input_shape)`.
    :param labels: True classes `(N,)`.
    :param eps: ε.
    :param norm: The norm.
    :param seed: Seed of what is drawn.
    :param correct: Which samples are classified correctly `(N,)`.
    :param left: Which of them survived all that was tried `(N,)`.
    :param members: What was tried.
    :param batch_size: Samples of one batch.
    :return: Every flag that can be measured on the classifier, on some of the samples, raised or not.
    """
    places = np.flatnonzero(correct)
    if not len(places):
        return []
    chosen = places[np.linspace(0, len(places) - 1, min(SAMPLES, len(places))).astype(int)]
    sample = Sample(classifier, x[chosen], labels[chosen], eps, norm, seed, batch_size)
    kept = chosen[left[chosen]]
    survivors = replace(sample, x=x[kept], labels=labels[kept])
    found = [*gradients.flags(sample), *predictions.flags(sample), *attacks.flags(sample, survivors, members)]
    return [*found, planted.flag(sample)]


def of_worst_case(worst: WorstCase, members: Sequence[Member], claimed: float | None = None) -> list[Flag]:
    """
    :param worst: A worst case.
    :param members: The members over which it was taken, in their order.
    :param claimed: The difference between two robust accuracies, from 0 to 1, that is to be shown, if there is one.
    :return: The flags that its figures are enough for.
    """
    return [few(worst.interval, claimed), *_of_members(worst, members)]


def follows_target(members: Sequence[Member]) -> np.ndarray:
    """
    :param members: Members of a plan.
    :return: Which of them follow a gradient of the target.
    """
    return np.array([member.source == "target" and differentiates(member.attack) for member in members])


def of_its_own_gradient(worst: WorstCase, members: Sequence[Member]) -> np.ndarray:
    """
    :param worst: A worst case.
    :param members: Its members.
    :return: Which samples `(N,)` are fooled by a member that follows a gradient of the target.
    """
    return np.asarray((worst.fooled_by >= 0) & follows_target(members)[np.maximum(worst.fooled_by, 0)])


def _of_members(worst: WorstCase, members: Sequence[Member]) -> list[Flag]:
    """What members that follow no gradient of the target found beyond those that do."""
    follows = follows_target(members)
    found = []
    for name, which, what in (
        ("query-beats-gradient", [m.source == "target" for m in members], "a search without gradients fools"),
        ("white-below-black", [m.source == "second" for m in members], "another network's adversarial inputs fool"),
    ):
        others = np.array(which) & ~follows
        if not others.any() or not follows.any():
            continue
        share = _beyond(worst, follows, others)
        meaning = (
            f"{what} {percent(share)} of the samples that no gradient of the network does: its gradients hide them."
        )
        found.append(Flag(name, share, BEYOND, meaning, share > BEYOND))
    return found


def _beyond(worst: WorstCase, follows: np.ndarray, others: np.ndarray) -> float:
    """Share of all samples that some other member fools and none that follows a gradient. Members before another tried
    the sample; those after it only if every one ran on every sample, and so are not missed where they did not."""
    if worst.each is not None:
        return float((worst.each[others].any(0) & ~worst.each[follows].any(0)).mean())
    by = worst.fooled_by
    late = np.array([other and not follows[number:].any() for number, other in enumerate(others)])
    return float(((by >= 0) & late[np.maximum(by, 0)]).mean())


def few(interval: tuple[float, float], claimed: float | None = None) -> Flag:
    """
    :param interval: The 95 % interval of a rate, from 0 to 1.
    :param claimed: The difference that is to be shown, if there is one.
    :return: Whether there are too few samples for it.
    """
    low, high = interval
    limit = WIDE if claimed is None else claimed
    meaning = f"the 95 % interval of the rate is {100 * (high - low):.1f} points wide" + (
        f", more than the {100 * limit:.1f} that are claimed to be apart."
        if claimed is not None
        else f": differences of less than {100 * (high - low):.0f} points show nothing by themselves."
    )
    return Flag("few-samples", high - low, limit, meaning, high - low > limit)
