"""What an audit would run, and about how long it would take: from one gradient along each chain, measured."""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_snn.attacks import attack
from art_snn.audit.cells import Cell, blocks, planned
from art_snn.audit.columns import column
from art_snn.audit.settings import GAMMAS, AuditSettings
from art_snn.audit.subjects import Subjects
from art_snn.chains import BackwardChain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation import PLANS

#: What an attack calls its steps, its starts and its queries.
STEPS, STARTS = ("max_iter",), ("nb_random_init", "num_random_init")

#: How many γ a search tries, about: where it begins, one beyond, and two between.
TRIED = len(GAMMAS) + 3


@dataclass(frozen=True)
class Line:
    """Cells that differ in ε and seed alone.

    :param attack: Attack.
    :param scenario: Scenario.
    :param chain: Chain.
    :param cells: How many there are.
    :param gradients: How many gradients, or queries, of a sample one takes; None if that is not known.
    :param seconds: How long all of them take, about, one after the other; None likewise.
    """

    attack: str
    scenario: str
    chain: str
    cells: int
    gradients: int | None
    seconds: float | None


def forecast(settings: AuditSettings, subjects: Subjects) -> list[Line]:
    """
    :param settings: What would be run.
    :param subjects: On whom.
    :return: A line for each attack, scenario and chain, and for each member of the worst case; of the latter an upper
        bound, as if no sample were ever fooled.
    """
    watch = _Watch(settings, subjects)
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in planned(settings, subjects):
        groups.setdefault((cell.attack, cell.scenario, cell.chain), []).append(cell)
    lines = []
    for (name, scenario, chain), cells in groups.items():
        entry, found = attack(name), column(chain)
        gradients = passes(entry.make, entry.arguments(steps=settings.steps, step_size=1.0))
        seconds = None
        if gradients is not None:
            tuned = found.tuned and settings.gamma is None
            number = len(subjects.attacked.x) + (TRIED * len(subjects.held_out.x) if tuned else 0)
            one = watch.seconds(subjects.source(scenario), found.chain(None), entry.differentiates)
            seconds = len(cells) * gradients * one * number
        lines.append(Line(name, scenario, chain, len(cells), gradients, seconds))
    if blocks(settings, subjects):
        members = PLANS[settings.plan].members_for(subjects.target, subjects.second, float(settings.norm))
        for member in members:
            gradients = passes(member.attack, member.settings)
            gradients = None if gradients is None else gradients * max(1, member.targets)
            source = subjects.target if member.source == "target" else subjects.second
            along = member.chain if isinstance(member.chain, BackwardChain) else None
            differentiates = along is not None or not isinstance(source, PyTorchSNNClassifier)
            one = watch.seconds(source, along, differentiates)
            seconds = None if gradients is None else gradients * one * len(subjects.attacked.x)
            said = "" if along is None else repr(along)
            lines.append(Line(f"worst case: {member.name}", "WBA", said, 1, gradients, seconds))
    return lines


def passes(make: Any, given: Mapping[str, Any]) -> int | None:
    """
    :param make: What makes an attack.
    :param given: Arguments that it is given.
    :return: How many gradients, or queries, one sample takes: steps times starts; 1 of a class without steps that has
        ε; None if its parameters do not say.
    """
    keywords: dict[str, Any] = {}
    while isinstance(make, partial):
        keywords, make = {**make.keywords, **keywords}, make.func
    defaults = {
        name: parameter.default
        for kind in reversed(inspect.getmro(make))
        if "__init__" in vars(kind)
        for name, parameter in inspect.signature(kind.__init__).parameters.items()  # type: ignore[misc]
    }
    known = {**defaults, **keywords, **given}
    steps = next((known[name] for name in STEPS if isinstance(known.get(name), int)), None)
    if steps is None:
        return 1 if "eps" in known and "max_iter" not in known else None
    starts = next((known[name] for name in STARTS if isinstance(known.get(name), int)), 1)
    return steps * max(1, starts)


class _Watch:
    """Seconds of one sample's gradient or prediction, measured once each."""

    def __init__(self, settings: AuditSettings, subjects: Subjects) -> None:
        number = min(settings.batch_size, len(subjects.attacked.x))
        self.x, self.y = subjects.attacked.x[:number], subjects.attacked.y[:number]
        self.known: dict[tuple[int, str], float] = {}

    def seconds(self, source: PyTorchClassifier | None, chain: BackwardChain | None, differentiates: bool) -> float:
        assert source is not None
        key = (id(source), repr(chain) if differentiates else "")
        if key not in self.known:
            runs = []
            with _silent():
                for _ in range(3):  # the first two have the checks of first use
                    begun = time.perf_counter()
                    if not differentiates:
                        source.predict(self.x, batch_size=len(self.x))
                    elif chain is None:
                        source.loss_gradient(self.x, self.y)
                    else:
                        source.loss_gradient(self.x, self.y, chain=chain)
                    runs.append(time.perf_counter() - begun)
            self.known[key] = min(runs) / len(self.x)
        return self.known[key]


@contextmanager
def _silent() -> Iterator[None]:
    """Gradients that cannot move a sample are not said: they are measured for their time, perhaps on a network that has
    learned nothing yet. The audit says it."""
    logger = logging.getLogger("art_snn")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def total(lines: list[Line], jobs: int) -> float:
    """
    :param lines: What :func:`forecast` gave.
    :param jobs: Processes.
    :return: Seconds of all of them at once, as far as they are known.
    """
    return math.fsum(line.seconds for line in lines if line.seconds is not None) / jobs
