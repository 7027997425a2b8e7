"""The audit: attack a trained target under every chain, white-box and black-box, and in the worst case.

White-box (WBA): the gradient is the target's. Black-box (BBA): the gradient is that of a second network of the same
shape, trained with another seed; its adversarial images are shown to the target (Hao et al., ICLR 2024, A.2.5); or that
of any further source. What is found, cell by cell, is in `cells`; how, in `solve`; where it is kept, in `store`; on how
many processes at once, in `parallel`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from art_snn.audit.cells import Block, Cell, Keys, blocks, planned
from art_snn.audit.metrics import Row, check_same_samples
from art_snn.audit.parallel import processes, solved
from art_snn.audit.settings import GAMMA_LIMITS, SCENARIOS, AuditSettings
from art_snn.audit.solve import Solver
from art_snn.audit.store import Found, Store
from art_snn.audit.subjects import Samples, Subjects, subjects_of
from art_snn.audit.trust import checks
from art_snn.evaluation import Flag, WorstCase
from art_snn.files import held

EXAMPLES = 8  # images of the figure


@dataclass
class AuditResult:
    """All that an audit found.

    :param settings: What was run.
    :param description: The target, in words.
    :param seeds: Seeds of data, target and second network.
    :param accuracy: Clean accuracy in per cent on the attacked samples, of the target and of the second network, None
        if there is none.
    :param trained: Whether target and second network were trained in this run.
    :param held_out: Number of samples on which γ was chosen.
    :param attacked: Indices of the attacked samples in the data set's test part, in the order of the rows' outcomes;
        None if they are not known.
    :param data: Digests of the data's arrays, and of the indices of its parts.
    :param rows: What became of the attacked samples: white-box at every ε, black-box at the tables' ε.
    :param search: What became of the held-out samples, from which γ was chosen.
    :param worst: The worst case over many attacks, white-box and by way of the second network, at the tables' ε; None
        if none was asked for.
    :param checks: What was examined to see whether the figures can be trusted.
    :param examples: Clean images, and their adversarial images by chain, of the white-box attack at the tables' ε.
    :param subjects: Networks and samples; None if they are not there any more.
    :raises ValueError: If the rows are not of the same samples.
    """

    settings: AuditSettings
    description: str
    seeds: dict[str, int]
    accuracy: tuple[float, float | None]
    trained: tuple[bool, bool]
    held_out: int
    attacked: list[int] | None = None
    data: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    search: list[Row] = field(default_factory=list)
    worst: WorstCase | None = None
    checks: list[Flag] = field(default_factory=list)
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    subjects: Subjects | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """
        :raises ValueError: If rows that stand together are not of the same samples.
        """
        check_same_samples(self.rows)
        check_same_samples(self.search)

    @property
    def flags(self) -> list[Flag]:
        """What speaks against the figures: the checks that are raised. A healthy network raises none."""
        return [check for check in self.checks if check.raised]

    def at_limit(self) -> list[Row]:
        """
        :return: Rows whose γ is where the search ended, so that a better one may lie beyond.
        """
        return [row for row in self.rows if self.settings.gamma is None and row.gamma in GAMMA_LIMITS]

    def chains(self, attack: str, scenario: str) -> list[str]:
        """
        :param attack: An attack of the settings.
        :param scenario: A scenario of the settings.
        :return: The chains that it ran along.
        """
        return list(dict.fromkeys(row.chain for row in self.rows if (row.attack, row.scenario) == (attack, scenario)))

    def rate(self, attack: str, scenario: str, chain: str, eps: float) -> Row:
        """
        :param attack: An attack of the settings.
        :param scenario: A scenario of the settings.
        :param chain: A chain that it ran along.
        :param eps: An ε of the settings.
        :return: The row of that attack, of the first seed.
        """
        return self.rates(attack, scenario, chain, eps)[0]

    def rates(self, attack: str, scenario: str, chain: str, eps: float) -> list[Row]:
        """
        :return: The rows of an attack, as :meth:`rate` names it, one for each seed.
        """
        return [row for row in self.rows if row.setting == (attack, scenario, chain, eps)]

    def strongest(self, attack: str, scenario: str) -> list[str]:
        """
        :param attack: An attack of the settings.
        :param scenario: A scenario of the settings.
        :return: The chains with the highest success rate at the tables' ε.
        """
        rates = {
            chain: self.rate(attack, scenario, chain, self.settings.eps).rate.fooled
            for chain in self.chains(attack, scenario)
        }
        return [chain for chain, fooled in rates.items() if fooled == max(rates.values())]


def run_audit(
    settings: AuditSettings,
    folder: Path,
    start: Callable[[str, int], None] = lambda what, total: None,
    advance: Callable[[], None] = lambda: None,
    write: Callable[[AuditResult], None] = lambda result: None,
    *,
    jobs: int | None = 1,
    cluster: str | None = None,
    subjects: Subjects | None = None,
) -> AuditResult:
    """Train the two networks of the embedded digits, or load the given ones; choose γ; attack.

    :param settings: What to run.
    :param folder: Where trained networks and finished cells are kept; it is made.
    :param start: Called with a name and a number of steps when a stage begins.
    :param advance: Called after each step of a stage; what the step found is kept once it returns.
    :param write: Called with the result before the folder is left to other runs, to write it.
    :param jobs: Processes that find cells at once; as many as there are cores if None.
    :param cluster: The address of a Dask cluster's scheduler, whose workers take the place of processes.
    :param subjects: Networks and samples, if they are there already; what the settings name if None.
    :return: What was found.
    :raises ValueError: If kept networks or cells, or given networks, cannot be used, or settings do not fit their
        data.
    :raises FolderInUse: If another run writes to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        if subjects is None:
            embedded = settings.network is None and settings.target is None
            start("training" if embedded else "loading", 2 * settings.epochs if embedded else 1)
            subjects = subjects_of(settings, folder / "networks", advance)
        result = _run(settings, subjects, folder / "cells", start, advance, jobs, cluster)
        write(result)
    return result


def _run(
    settings: AuditSettings,
    subjects: Subjects,
    folder: Path,
    start: Callable[[str, int], None],
    advance: Callable[[], None],
    jobs: int | None,
    cluster: str | None,
) -> AuditResult:
    solver, attacked = Solver(settings, subjects), subjects.attacked
    result = AuditResult(
        settings,
        subjects.description,
        subjects.seeds,
        (_percent(solver, subjects.target), subjects.second and _percent(solver, subjects.second)),
        subjects.fresh,
        len(subjects.held_out.x),
        None if attacked.indices is None else [int(index) for index in attacked.indices],
        subjects.data,
        subjects=subjects,
    )
    work: list[Cell | Block] = [*planned(settings, subjects), *blocks(settings, subjects)]
    keys, store, parts = Keys(settings, subjects), Store(folder, solver.untouched()), []
    start("attacks", len({keys.of(each) for each in work}))
    found = _found(work, keys, store, solver, advance, jobs, cluster)
    for each in work:
        what = found[each]
        if isinstance(what, WorstCase):
            parts.append(what)
        else:
            result.rows.append(what[0])
            result.search += what[1]
    result.check()
    result.worst = WorstCase.joined(parts) if parts else None
    if settings.checks:
        start("can the figures be trusted", 1)
        result.checks = store.checks(keys.of_all(work), lambda: checks(solver, result.rows, result.worst))
        advance()
    result.examples = _examples(solver, result)
    return result


def _found(
    work: list[Cell | Block],
    keys: Keys,
    store: Store,
    solver: Solver,
    advance: Callable[[], None],
    jobs: int | None,
    cluster: str | None,
) -> dict[Cell | Block, Found | WorstCase]:
    """What all cells found: what is kept, and the rest as it comes."""
    by_key: dict[str, list[Cell | Block]] = {}  # two names may stand for one and the same
    for each in work:
        by_key.setdefault(keys.of(each), []).append(each)
    found = {}
    for key, (first, *_) in by_key.items():
        if (kept := store.get(first, key)) is not None:
            found[key] = kept
            advance()
    # The longest first, so that no process waits for one that another began at the end.
    missing = {same[0]: key for key, same in by_key.items() if key not in found}
    ordered = sorted(missing, key=lambda each: isinstance(each, Cell))
    if missing:
        number = processes(jobs, len(missing), solver.settings.device)
        for each, what in solved(ordered, solver, jobs=number, cluster=cluster):
            advance()  # an interruption that was swallowed meanwhile is raised here: what it touched is not kept
            store.put(missing[each], what)
            found[missing[each]] = what
    return {each: _called(found[key], each) for key, same in by_key.items() for each in same}


def _called(found: Found | WorstCase, work: Cell | Block) -> Found | WorstCase:
    """What was found under what it is called here: what decides it is the same, its names need not be."""
    if isinstance(found, WorstCase) or isinstance(work, Block):
        return found
    names: dict[str, Any] = {"attack": work.attack, "scenario": work.scenario, "chain": work.chain}
    row, search = found
    return replace(row, **names), [replace(tried, **names) for tried in search]


def _percent(solver: Solver, classifier: object) -> float:
    samples = solver.subjects.attacked
    return 100.0 * float((solver.classes(classifier, samples.x) == samples.labels).mean())


def _examples(solver: Solver, result: AuditResult) -> dict[str, np.ndarray]:
    """A few clean inputs, and what the last attack makes of them along each chain."""
    settings, attacked = result.settings, solver.subjects.attacked
    few, attack = Samples(attacked.x[:EXAMPLES], attacked.y[:EXAMPLES]), settings.attacks[-1]
    found = {"clean": few.x}
    for chain in result.chains(attack, SCENARIOS[0]):
        gamma = result.rate(attack, SCENARIOS[0], chain, settings.eps).gamma
        cell = Cell(attack, SCENARIOS[0], chain, settings.eps, settings.seed)
        found[chain] = solver.images(cell, gamma, few)
    return found
