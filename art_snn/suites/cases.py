"""The table of suites: what each trains, what it attacks, along which chains.

A case is one target, with the networks whose gradients are followed besides. Labels say in what cases differ, by the
paper's names: λ, with * for a target that was trained adversarially; T; ε.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from art_snn.suites import gammas
from art_snn.suites.settings import SuiteSettings
from art_snn.tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame

#: Settings of a network's training that differ from the suite's.
Training = dict[str, Any]

FIVE = ("cba", "bptr", "stbp", "rga", "hart")
THREE = ("stbp", "rga", "hart")

#: λ of the paper's tables, and of a robust target.
DECAYS, ROBUST = (0.5, 1.0), "0.9*"

#: γ of the paper's Fig. 3: 48 points at equal intervals.
GRID = tuple(round(float(gamma), 4) for gamma in np.linspace(0.0625, 3.0, 48))


@dataclass(frozen=True)
class Case:
    """One target and what attacks it.

    :param labels: What a line of the table says of it.
    :param target: How the target is trained.
    :param second: How the second network is trained, by default as the target but for the seed; None for none.
    :param sources: How further networks are trained, by their names in the table.
    :param audit: Settings of the audit.
    """

    labels: dict[str, str]
    target: Training
    second: Training | None = field(default_factory=dict)
    sources: dict[str, Training] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """One experiment.

    :param name: Its name for the command.
    :param title: What it is, in a sentence.
    :param cases: Its cases.
    :param scenarios: Which scenarios its table shows.
    :param events: Whether it is for event data only; None for either.
    :param table: Its table, of rows and the labels of its cases, where a column for each chain would not say it.
    :param draw: Draws its figure, likewise, where it has one.
    """

    name: str
    title: str
    cases: Callable[[SuiteSettings], Iterator[Case]]
    scenarios: tuple[str, ...] = ("WBA", "BBA")
    events: bool | None = None
    table: Callable[[DataFrame, list[str]], DataFrame] | None = None
    draw: Callable[[DataFrame, list[str], Path], None] | None = None


def _decay(decay: float | str) -> tuple[dict[str, str], Training]:
    """Label and training of a target of that λ."""
    if decay == ROBUST:
        return {"λ": ROBUST}, {"decay": 0.9, "attack": "pgd"}
    return {"λ": f"{decay:.1f}"}, {"decay": decay}


def _rate_against_activation(settings: SuiteSettings) -> Iterator[Case]:
    for steps in (max(1, settings.steps // 2), settings.steps):
        for decay in DECAYS:
            label, training = _decay(decay)
            audit = {"chains": ("cba", "rate")}
            yield Case({"T": f"{steps}"} | label, training | {"time_steps": steps}, None, audit=audit)


def _five_chains(settings: SuiteSettings, black: bool) -> Iterator[Case]:
    for decay in (0.5, 0.9, ROBUST, 1.0):
        label, training = _decay(decay)
        robust = {"eps": settings.strongest} if decay == ROBUST else {}
        yield Case(label, training | robust, {} if black else None, audit={"chains": FIVE})


def _time_steps(settings: SuiteSettings) -> Iterator[Case]:
    for decay in DECAYS:
        for steps in (max(1, settings.steps // 2), settings.steps, 2 * settings.steps):
            label, training = _decay(decay)
            audit = {"chains": THREE}
            yield Case(label | {"T": f"{steps}"}, training | {"time_steps": steps}, audit=audit)


def _perturbations(settings: SuiteSettings) -> Iterator[Case]:
    for decay in DECAYS:
        for part in (0.25, 0.5, 1.0):
            label, training = _decay(decay)
            eps = part * settings.strongest
            yield Case(label | {"ε": in_255ths(eps)}, training, audit={"chains": THREE, "eps": eps})


def _best_gamma(settings: SuiteSettings) -> Iterator[Case]:
    for decay in DECAYS:
        yield Case(*_decay(decay), audit={"chains": ("stbp", "stbp-best", "hart")})


def _restarts(settings: SuiteSettings) -> Iterator[Case]:
    label, training = _decay(ROBUST)
    audit = {"chains": THREE, "attacks": ("pgd(max_iter=10, num_random_init=5)",)}
    yield Case(label, training | {"eps": settings.strongest}, audit=audit)


def _median(settings: SuiteSettings) -> Iterator[Case]:
    for steps in (max(1, settings.steps // 2), settings.steps, 2 * settings.steps):
        for decay in (0.9, 1.0):
            label, training = _decay(decay)
            training |= {"time_steps": steps, "encoder": "median"}
            yield Case({"T": f"{steps}"} | label, training, None, audit={"chains": THREE})


def _poisson(settings: SuiteSettings) -> Iterator[Case]:
    for decay in DECAYS:
        for steps in (2 * settings.steps, 4 * settings.steps):
            label, training = _decay(decay)
            training |= {"time_steps": steps, "encoder": "poisson"}
            yield Case(label | {"T": f"{steps}"}, training, audit={"chains": THREE})


def _gammas(settings: SuiteSettings) -> Iterator[Case]:
    for decay in (0.5, 0.9, 1.0):
        label, training = _decay(decay)
        chains = ("hart", *(f"hart(gamma={gamma})" for gamma in GRID))
        yield Case(label, training, None, audit={"chains": chains})


def _event_frames(settings: SuiteSettings) -> Iterator[Case]:
    for decay in DECAYS:
        for same in (True, False):
            label, training = _decay(decay)
            label["gradient"] = "one for all frames" if same else "of each frame"
            yield Case(label, training, audit={"chains": (*FIVE, "mixed"), "same_gradient": same})


def _rectifiers(settings: SuiteSettings) -> Iterator[Case]:
    _, spiking = _decay(0.9)
    ann, seed = {"spiking": False}, settings.seed + 1
    for name, target in (("SNN", spiking), ("ANN", ann)):
        other, of = ("ANN", ann) if name == "SNN" else ("SNN", spiking)
        sources = {f"{other}, another seed": of | {"seed": seed}}
        yield Case({"target": name}, target, sources=sources, audit={"chains": FIVE})


def in_255ths(eps: float) -> str:
    """
    :param eps: An ε.
    :return: It as the paper writes it, if it is a whole number of 255ths.
    """
    whole = round(eps * 255)
    return f"{whole}/255" if abs(eps * 255 - whole) < 1e-6 and whole else f"{eps:g}"


SUITES = Table(
    Suite("table1", "Rate against CBA, over T and λ", _rate_against_activation, ("WBA",)),
    Suite("table2", "Five chains, white-box, plain and robust targets", lambda s: _five_chains(s, False), ("WBA",)),
    Suite("table3", "Five chains, black-box, plain and robust targets", lambda s: _five_chains(s, True), ("BBA",)),
    Suite("table4", "STBP, RGA and HART over T", _time_steps),
    Suite("table5", "STBP, RGA and HART over ε", _perturbations),
    Suite("tableA1", "STBP with its best γ", _best_gamma),
    Suite("tableA2", "PGD of 10 steps, five random starts, any of which counts, on robust targets", _restarts),
    Suite("tableA3", "A median filter in training and test", _median, ("WBA",), events=False),
    Suite("tableA4", "Poisson encoding", _poisson, events=False),
    Suite(
        "fig3",
        "ASR against γ: 48 points, and what the search on held-out samples finds",
        _gammas,
        ("WBA",),
        table=gammas.against_grid,
        draw=gammas.draw,
    ),
    Suite("events", "One gradient for all frames, and Eq. A6's mixture", _event_frames, events=True),
    Suite("ann", "The network of the same shape with rectifiers, and transfer both ways", _rectifiers),
)
