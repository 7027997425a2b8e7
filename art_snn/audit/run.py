"""An audit from Python: a classifier and arrays, or what the settings name; a DataFrame with a row for each cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from art.estimators.classification import PyTorchClassifier
from tqdm.auto import tqdm

from art_snn.attacks.checks import class_indices
from art_snn.audit.frame import cells
from art_snn.audit.protocol import run_audit
from art_snn.audit.settings import ARRAYS, HELD_OUT, NO_PLAN, AuditSettings
from art_snn.audit.subjects import Samples, Subjects
from art_snn.identity import of_arrays

if TYPE_CHECKING:
    from pandas import DataFrame


def run(
    classifier: PyTorchClassifier | None = None,
    x: np.ndarray | None = None,
    y: np.ndarray | None = None,
    *,
    second: PyTorchClassifier | None = None,
    sources: dict[str, PyTorchClassifier] | None = None,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    folder: str | Path | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    verbose: bool = True,
    **settings: Any,
) -> DataFrame:
    """Attack a classifier along every chain.

    :param classifier: What is attacked; what the settings name (`network`, `target`, or the embedded digits) if None.
    :param x: Inputs that it is attacked on `(N, *input_shape)`.
    :param y: Their labels, one-hot `(N, K)` or classes `(N,)`.
    :param second: A classifier of the same shape, trained with another seed, for black-box attacks.
    :param sources: Further classifiers whose gradients are followed, by name.
    :param held_out: Other inputs and labels, on which γ is chosen; a third of `x`, at most 200, when not given, which
        are not attacked then.
    :param folder: Where finished cells are kept, so that the same call goes on there; nowhere when not given.
    :param jobs: Processes that find cells at once; as many as there are cores if None.
    :param cluster: The address of a Dask cluster's scheduler, whose workers take the place of processes.
    :param verbose: Whether to show the progress.
    :param settings: More of :class:`~art_snn.audit.settings.AuditSettings`: `eps`, `attacks`, `chains` ...; `plan` is
        "none" unless it is given, and `checks` are left.
    :return: A row for each cell, see :func:`art_snn.audit.frame.cells`. `attrs` has the checks that are `raised`, and,
        with a plan, the `worst_case`, as plain values.
    :raises ValueError: If an argument is out of its range, or they do not fit each other.
    """
    settings = {"plan": NO_PLAN, "checks": False} | settings
    seed: Any = settings.get("seed", 0)
    subjects = None
    if classifier is not None:
        if x is None or y is None:
            raise ValueError("x and y must be given with classifier: the samples that it is attacked on.")
        subjects = _given(classifier, x, y, second, sources or {}, held_out, int(seed))
        given: dict[str, Any] = {
            "network": type(classifier.model).__name__,
            "data": ARRAYS,
            "samples": len(subjects.attacked.x),
        }
        given |= {"second": None if second is None else "second", "sources": tuple(sources or ()) or None}
        settings = given | settings
    elif any(each is not None for each in (x, y, second, sources, held_out)):
        raise ValueError("classifier must be given with x, y, second, sources and held_out.")
    with _place(folder) as place, _bars(verbose) as (start, advance):
        result = run_audit(
            AuditSettings(**settings), place, start, advance, jobs=jobs, cluster=cluster, subjects=subjects
        )
    frame = cells(result)
    frame.attrs["raised"] = [str(flag) for flag in result.flags]
    frame.attrs["worst_case"] = None if result.worst is None else result.worst.as_dict()
    return frame


def _given(
    classifier: PyTorchClassifier,
    x: np.ndarray,
    y: np.ndarray,
    second: PyTorchClassifier | None,
    sources: dict[str, PyTorchClassifier],
    held_out: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
) -> Subjects:
    for name, each in {"classifier": classifier, "second": second, **sources}.items():
        if each is None:
            continue
        if not isinstance(each, PyTorchClassifier):
            raise TypeError(
                f"{name} must be ART's PyTorchClassifier or a PyTorchSNNClassifier, got {type(each).__name__}."
            )
        if tuple(each.input_shape) != x.shape[1:] or each.nb_classes != classifier.nb_classes:
            raise ValueError(
                f"{name} takes inputs {tuple(each.input_shape)} of {each.nb_classes} classes, x has {x.shape[1:]}, "
                f"classifier {classifier.nb_classes}."
            )
        each.model.eval()
    all_of = _samples("y", classifier, x, y)
    if held_out is not None:
        tuned, attacked = _samples("held_out", classifier, *held_out), Samples(all_of.x, all_of.y, np.arange(len(x)))
    else:
        order = np.random.default_rng(seed).permutation(len(x))
        number = min(HELD_OUT, len(x) // 3)
        tuned, attacked = (Samples(all_of.x[rows], all_of.y[rows], rows) for rows in (order[:number], order[number:]))
    return Subjects(
        classifier,
        second,
        tuned,
        attacked,
        type(classifier.model).__name__,
        {"order": seed},
        (False, False),
        {"test_arrays": of_arrays(attacked.x, attacked.y)},
        sources,
    )


def _samples(name: str, classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray) -> Samples:
    x, classes = np.ascontiguousarray(x, dtype=np.float32), classifier.nb_classes
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x of {name} must hold finite numbers, and at least one sample.")
    return Samples(x, np.eye(classes, dtype=np.float32)[class_indices(y, len(x), classes)])


@contextmanager
def _place(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


@contextmanager
def _bars(verbose: bool) -> Iterator[tuple[Any, Any]]:
    """A bar for each stage, in terminals and notebooks."""
    bars: list[Any] = []

    def start(what: str, total: int) -> None:
        bars.append(tqdm(total=total, desc=what, disable=not verbose))

    def advance() -> None:
        bars[-1].update(1)

    try:
        yield start, advance
    finally:
        for bar in bars:
            bar.close()
