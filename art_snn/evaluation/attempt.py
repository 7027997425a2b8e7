"""One attack on one batch, and what of its results counts.

Nothing is believed: ε and the range are checked on the arrays that an attack gives, and what fools is what the
classifier predicts for them anew. A member's random numbers go by the seed, the member and the sample.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

from art_snn.attacks.ball import BallAttack
from art_snn.chains import BackwardChain
from art_snn.evaluation.plan import Member
from art_snn.randomness import mixed_seed

#: How far beyond ε or the range float32 may round, in units of the largest number.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Attempt:
    """What an attack found for a batch of B samples.

    :param x: What it gave for each, `(B, ...)`.
    :param predicted: What the classifier predicts for that, `(B,)`; the true class where it does not count.
    :param fooled: Where that is another class than the true one, `(B,)`.
    :param distances: Of what it gave from the inputs, in its norm, `(B,)`.
    :param invalid: How many results lay outside ε or the range, or held NaN: they do not count.
    """

    x: np.ndarray
    predicted: np.ndarray
    fooled: np.ndarray
    distances: np.ndarray
    invalid: int


def attempt(
    member: Member,
    classifier: PyTorchClassifier,
    second: PyTorchClassifier | None,
    x: np.ndarray,
    labels: np.ndarray,
    *,
    eps: float,
    norm: float,
    seed: int,
    samples: np.ndarray,
    logits: np.ndarray | None = None,
    repeats: int = 1,
) -> Attempt:
    """
    :param member: The attack.
    :param classifier: What is to be fooled.
    :param second: Another classifier, whose gradient a member of that source follows.
    :param x: Inputs `(B, ...)`.
    :param labels: True classes `(B,)`.
    :param eps: ε, in the norm, unless the member has its own.
    :param norm: The norm, likewise.
    :param seed: Seed of its random numbers.
    :param samples: A number for each sample by which they go, `(B,)`.
    :param logits: The classifier's for the inputs `(B, K)`, by which a targeted member chooses the classes it aims at,
        one after the other, on what is left.
    :param repeats: How often a result is predicted, where predictions are random: the class is what most of them say.
    :return: What it found.
    :raises ValueError: If it gave something of another shape.
    """
    bound, within = (member.eps or eps), (norm if member.norm is None else member.norm)
    source: Any = classifier if member.source == "target" else second
    own = mixed_seed(seed, int.from_bytes(hashlib.blake2b(str(member).encode(), digest_size=6).digest(), "little"))
    found, predicted, distances, invalid = x.copy(), labels.copy(), np.zeros(len(x)), 0
    left = np.arange(len(x))
    for rank in range(max(member.targets, 1)):
        goal = labels[left]
        if member.targets:
            assert logits is not None
            goal = _likeliest(logits[left], labels[left], rank)
        aimed = own if not rank else mixed_seed(own, rank)
        given = {"eps": bound, "norm": within, "batch_size": len(left), "verbose": False, "seed": aimed % 2**31}
        given |= {"targeted": True} if member.targets else {}
        one_hot = np.eye(classifier.nb_classes, dtype=np.float32)[goal]
        with _along(source, member), _seeded(aimed):
            attack = member.on(source, **given)
            ours = {"samples": samples[left]} if isinstance(attack, BallAttack) else {}
            now = np.asarray(attack.generate(x[left].copy(), one_hot, **ours))
        found[left], distances[left], counts = _judged(now, x[left], classifier, bound, within)
        invalid += int((~counts).sum())
        if counts.any():
            predicted[left[counts]] = majority(classifier, found[left[counts]], repeats)
        left = left[predicted[left] == labels[left]]
        if not len(left):
            break
    return Attempt(found, predicted, predicted != labels, distances, invalid)


def majority(classifier: PyTorchClassifier, x: np.ndarray, repeats: int, batch_size: int | None = None) -> np.ndarray:
    """
    :param classifier: A classifier.
    :param x: Inputs `(N, ...)`.
    :param repeats: How often they are predicted.
    :param batch_size: Samples of one batch; all of them at once when not given.
    :return: The class that most predictions say, `(N,)`; of equals the first.
    """
    votes = np.zeros((len(x), classifier.nb_classes), dtype=np.int64)
    for _ in range(repeats):
        votes[np.arange(len(x)), classifier.predict(x, batch_size=batch_size or len(x)).argmax(1)] += 1
    return votes.argmax(1)


@contextmanager
def _along(source: Any, member: Member) -> Iterator[None]:
    """The source follows the member's chain. One with state keeps it from gradient to gradient: attacks of our own see
    to that, start by start; of others the whole call is one attack on these samples."""
    chain = member.chain
    if not isinstance(chain, BackwardChain):
        yield
        return
    state = any(part.has_state for _, part in chain.parts()) and not member.is_stepped
    with source.following(chain), chain.run() if state else nullcontext():
        yield


def _judged(
    found: np.ndarray, x: np.ndarray, classifier: PyTorchClassifier, eps: float, norm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Results in float32, their distances, and which lie in the ball and in the range."""
    if found.shape != x.shape:
        raise ValueError(f"an attack gave {found.shape} for inputs of shape {x.shape}.")
    found = found.astype(np.float32)
    distances, valid = in_ball(found, x, eps, norm)
    if classifier.clip_values is not None:
        valid &= in_range(found, classifier.clip_values)
    return found, distances, valid


def in_ball(found: np.ndarray, x: np.ndarray, eps: float, norm: float) -> tuple[np.ndarray, np.ndarray]:
    """
    :param found: Inputs `(N, ...)`.
    :param x: The inputs that they are of, `(N, ...)`.
    :param eps: ε.
    :param norm: A norm p >= 1, or infinity.
    :return: How far each is from its own, `(N,)`, and whether it is finite and no farther than ε, but for rounding.
    """
    distances, finite = distance(found, x, norm), np.isfinite(found)
    largest = np.abs(np.where(finite, found, 0)).reshape(len(found), -1).max(1)
    slack = ROUNDING * np.maximum(1.0, largest) * (1.0 if norm == np.inf else math.sqrt(found[0].size))
    return distances, np.logical_and(finite.reshape(len(found), -1).all(1), distances <= eps + slack)


def in_range(found: np.ndarray, clip_values: tuple[Any, Any]) -> np.ndarray:
    """
    :param found: Inputs `(N, ...)`.
    :param clip_values: Smallest and largest value of an input, numbers or arrays.
    :return: Whether each lies between them, but for rounding, `(N,)`.
    """
    low, high = (np.asarray(value, dtype=np.float32) for value in clip_values)
    loose = ROUNDING * max(1.0, float(np.abs(high).max()))
    inside = (found >= low - loose) & (found <= high + loose)
    return np.all(inside.reshape(len(found), -1), axis=1)


def distance(found: np.ndarray, x: np.ndarray, norm: float) -> np.ndarray:
    """
    :param found: Inputs `(N, ...)`.
    :param x: Others `(N, ...)`.
    :param norm: A norm p >= 1, or infinity.
    :return: How far each is from its other, `(N,)`.
    """
    delta = np.abs(found.astype(np.float64) - x).reshape(len(x), -1)
    if norm == np.inf:
        return delta.max(1)
    return np.sqrt((delta**2).sum(1)) if norm == 2 else (delta**norm).sum(1) ** (1 / norm)


def _likeliest(logits: np.ndarray, labels: np.ndarray, rank: int) -> np.ndarray:
    """The wrong class that comes at a rank, from 0, by the logits of the clean input."""
    others = logits.astype(np.float64).copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.argsort(-others, axis=1, kind="stable")[:, rank]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators, from which ART's attacks draw, begin with a seed inside the block."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
