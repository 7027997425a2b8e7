"""Whether what a leaderboard entry claims holds.

Nothing is believed of it. Who verifies it brings the network and the data; the ball, the range and the labels are
looked at in the arrays, and what fools is what the network predicts anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_snn.audit.entry import NORMS, arrays, digest
from art_snn.audit.subjects import load_as_trained
from art_snn.datasets.table import DATASETS
from art_snn.evaluation.attempt import in_ball, in_range
from art_snn.evaluation.result import BEFORE
from art_snn.identity import differences, of_arrays, versions

BATCH = 128
#: What an entry may say of how its data set is loaded; where it lies, and whether to download it, is not its to say.
OPTIONS = frozenset(("seed", "test_size", "limit", "time_steps", "size", "drop_outside"))


class NoData(ValueError):
    """Data that cannot be had as they were asked for; the message says why."""


class Clean(NamedTuple):
    """What an entry is of, from another place than the entry.

    :param x: Inputs `(N, ...)`.
    :param labels: Their true classes `(N,)`.
    :param clip_values: Smallest and largest value of an input; None where the data do not say it.
    """

    x: np.ndarray
    labels: np.ndarray
    clip_values: tuple[float, float] | None = None


def samples(plain: Mapping[str, Any], data: str | None = None, root: str | None = None) -> Clean:
    """
    :param plain: An entry, see :func:`art_snn.audit.entry.read`.
    :param data: The data set, or a file .npz with `x` `(M, ...)` and `y` `(M,)` or `(M, K)`, a test part, and perhaps
        numbers `low` and `high`; the data set that the entry names if None.
    :param root: Folder of the data set, if it has one.
    :return: The samples that the entry is of.
    :raises NoData: If they cannot be had.
    """
    if data is not None and data.endswith(".npz"):
        found = arrays(data)
        if not {"x", "y"} <= set(found):
            raise NoData(f"{data} must hold arrays x and y, it has {', '.join(found) or 'none'}.")
        x, y = found["x"], found["y"]
        clip = (float(found["low"]), float(found["high"])) if {"low", "high"} <= set(found) else None
    else:
        x, y, clip = _loaded(plain, plain["dataset"] if data is None else data, root)
    if len(x) != len(y) or y.ndim > 2:
        raise NoData(f"the data have {len(x)} inputs and labels of shape {y.shape}.")
    places = plain["data"].get("indices")
    if places is not None:
        if places and not 0 <= min(places) <= max(places) < len(x):
            raise NoData(f"the entry is of samples {min(places)} to {max(places)}, the data have {len(x)}.")
        x, y = x[places], y[places]
    labels = y.argmax(1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    return Clean(np.ascontiguousarray(x, dtype=np.float32), labels.astype(np.int64), clip)


def _loaded(
    plain: Mapping[str, Any], name: str, root: str | None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """The test part of a data set, as the entry says that it is loaded, and its range."""
    if name not in DATASETS:
        raise NoData(f"data {name} is none of {', '.join(DATASETS)}: give its samples as a file .npz of x and y.")
    known, how = DATASETS[name], plain["data"]
    if known.embedded == (root is not None):
        raise NoData(f"{name} is embedded: it has no folder." if root else f"{name} is in a folder: say in which one.")
    if isinstance(how.get("training"), dict):
        found = load_as_trained({**how["training"], "root": root})
        return *found.test, found.clip_values
    options = how.get("options")
    if not isinstance(options, dict):
        raise NoData("the entry does not say how its data are loaded: give its samples as a file .npz of x and y.")
    options = {option: value for option, value in options.items() if option in OPTIONS & known.takes}
    if isinstance(options.get("size"), list):
        options["size"] = tuple(options["size"])
    _, (x, y), low, high = known.load(*([] if root is None else [root]), **options)
    return x, y, (float(low), float(high))


@dataclass(frozen=True)
class Check:
    """One claim.

    :param claim: What is claimed.
    :param holds: Whether it holds.
    :param words: What was found.
    """

    claim: str
    holds: bool
    words: str


def verify(
    plain: Mapping[str, Any],
    adversarial: Mapping[str, np.ndarray],
    classifier: PyTorchClassifier,
    clean: Clean,
) -> list[Check]:
    """
    :param plain: An entry, see :func:`read`.
    :param adversarial: Its adversarial inputs, see :func:`read_adversarial`.
    :param classifier: The network.
    :param clean: The samples, see :func:`samples`.
    :return: What is claimed, one by one, and whether it holds.
    """
    x, labels = np.asarray(clean.x, dtype=np.float32), np.asarray(clean.labels, dtype=np.int64)
    found = np.asarray(adversarial["x_adv"])
    checks = [
        _same("network", plain["network"]["digest"], digest(classifier.model)),
        _same("data", plain["data"]["digest"], of_arrays(x, labels)),
        _same("adversarial inputs", plain["adversarial"]["digest"], of_arrays(found.astype(np.float32))),
    ]
    if clean.clip_values is not None:
        checks.append(_clip(plain, clean.clip_values))
    others = [np.shape(adversarial[name]) for name in ("labels", "fooled_by") if name in adversarial]
    shaped = found.shape == x.shape and len(x) == plain["samples"] and all(other == (len(x),) for other in others)
    words = f"x_adv {found.shape}, clean inputs {x.shape}, {plain['samples']} samples are claimed"
    checks.append(Check("shape", shaped, words))
    if not shaped:
        return checks  # nothing can be set against anything
    found = found.astype(np.float32)
    return [
        *checks,
        *_of_inputs(plain, adversarial, found, x, labels),
        *_of_predictions(plain, adversarial, classifier, found, x, labels),
    ]


def notes(plain: Mapping[str, Any], network: PyTorchClassifier) -> list[str]:
    """
    :param plain: An entry.
    :param network: The network.
    :return: What to know besides whether its claims hold.
    """
    said = []
    if differing := differences(plain.get("versions") or {}, versions()):
        said.append(f"Versions differ, by which predictions may: {differing}.")
    if plain.get("reported") is not None:
        said.append(f"Reported {plain['reported']:.1f} %, found {plain['found']:.1f} % robust accuracy.")
    for flag in plain.get("flags") or ():
        said.append(f"Flag {flag.get('name')}: {flag.get('meaning')} ({flag.get('value')}, limit {flag.get('limit')}).")
    own = network.clip_values
    if own is not None and [np.asarray(end).tolist() for end in own] != plain["clip_values"]:
        said.append(f"The network takes inputs from {own[0]} to {own[1]}.")
    return said


def _same(claim: str, claimed: str, found: str) -> Check:
    holds = claimed == found
    return Check(claim, holds, found if holds else f"the entry's is {claimed}, found {found}")


def _clip(plain: Mapping[str, Any], of_data: tuple[float, float]) -> Check:
    """The range that is claimed is no wider than that of the data."""
    low, high = plain["clip_values"]
    ends = (
        np.array([[low], [high]], dtype=np.float64) if np.ndim(low) == 0 else np.stack([np.ravel(low), np.ravel(high)])
    )
    inside = low is not None and bool((ends[0] >= of_data[0]).all() and (ends[1] <= of_data[1]).all())
    return Check("clip_values", inside, f"{plain['clip_values']}, of the data {list(of_data)}")


def _of_inputs(
    plain: Mapping[str, Any],
    adversarial: Mapping[str, np.ndarray],
    found: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
) -> list[Check]:
    """What the arrays say."""
    distances, near = in_ball(found, x, plain["eps"], NORMS[plain["norm"]])
    inside, same = _inside(plain, found), np.asarray(adversarial["labels"]) == labels
    return [
        Check(
            "range",
            bool(inside.all()),
            f"{int((~inside).sum())} of {len(x)} outside {plain['clip_values']}, or not finite",
        ),
        Check(
            "ball",
            bool(near.all()),
            f"{int((~near).sum())} of {len(x)} farther than {plain['norm']} {plain['eps']:g}; the farthest is at "
            f"{float(np.nan_to_num(distances, nan=np.inf).max()):.6g}",
        ),
        Check("labels", bool(same.all()), f"{int((~same).sum())} of {len(x)} are other classes than the data's"),
    ]


def _inside(plain: Mapping[str, Any], found: np.ndarray) -> np.ndarray:
    if None in plain["clip_values"]:
        return np.all(np.isfinite(found).reshape(len(found), -1), axis=1)
    low, high = plain["clip_values"]
    return in_range(found, (low, high))


def _of_predictions(
    plain: Mapping[str, Any],
    adversarial: Mapping[str, np.ndarray],
    classifier: PyTorchClassifier,
    found: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
) -> list[Check]:
    """What the network says, anew."""
    before, again = (_classes(classifier, x) for _ in range(2))
    correct = before == labels
    valid = _inside(plain, found) & in_ball(found, x, plain["eps"], NORMS[plain["norm"]])[1]
    after = _classes(classifier, np.where(valid.reshape(-1, *[1] * (x.ndim - 1)), found, x))  # the others do not count
    fooled = correct & (after != labels)
    robust, total = int((correct & ~fooled).sum()), len(x)
    checks = [
        Check(
            "predictions",
            bool((again == before).all()),
            f"{int((again != before).sum())} of {total} differ when repeated",
        ),
        _count("clean_acc", plain["clean_acc"], int(correct.sum()), total),
        _count("found", plain["found"], robust, total),
    ]
    if "fooled_by" in adversarial:
        by = np.asarray(adversarial["fooled_by"])
        claimed, wrong = by >= 0, by == BEFORE
        words = f"{int((claimed & fooled).sum())} of {int(claimed.sum())} that are claimed fool"
        if differing := int((wrong == correct).sum()):
            words += f"; {differing} of {total} are not as claimed before the attack"
        checks.append(Check("success", bool((fooled == claimed).all()) and not differing, words))
    return checks


def _count(claim: str, per_cent: float, found: int, total: int) -> Check:
    claimed = per_cent * total / 100.0
    return Check(
        claim,
        abs(claimed - found) < 1e-6 * total,
        f"{100.0 * found / total:.2f} %, claimed {per_cent:.2f} % ({found} of {total})",
    )


def _classes(classifier: PyTorchClassifier, x: np.ndarray) -> np.ndarray:
    return np.asarray(classifier.predict(x, batch_size=BATCH)).argmax(1)
