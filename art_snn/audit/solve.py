"""What one cell finds: the search for its γ on held-out samples, and its attack on the test samples.

γ belongs to a setting, not to a network: for each chain, attack, ε and scenario it is the one with the highest success
rate on held-out samples, which no reported rate uses. The rate has one peak along γ (section 4.3 of Hao et al., ICLR
2024), so the search takes γ = 1, 2 and 4; halves or doubles γ while the best lies at an edge; and then takes the
middles between the best and its neighbours. Ties go to the smaller γ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_snn.attacks import attack
from art_snn.audit.cells import Block, Cell, planned
from art_snn.audit.columns import NO_CHAIN, column
from art_snn.audit.metrics import FOOLED, RESISTED, WRONG, Row, outcomes
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS, SCENARIOS, AuditSettings
from art_snn.audit.store import Found
from art_snn.audit.subjects import Samples, Subjects
from art_snn.chains import BackwardChain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation import Member, WorstCase, evaluate
from art_snn.evaluation.attempt import attempt


class Solver:
    """An audit's subjects, and what is computed once for all cells.

    What the names of attacks and chains stand for is looked up here, so that it travels to other processes, whose
    tables may lack what was added to them in this one.

    :param settings: What to run.
    :param subjects: On whom.
    """

    def __init__(self, settings: AuditSettings, subjects: Subjects) -> None:
        self.settings, self.subjects = settings, subjects
        self.attacks = {name: attack(name) for name in settings.attacks}
        self.columns = {name: column(name) for name in (*settings.chains, NO_CHAIN)}
        self.samples = {"held_out": subjects.held_out, "attacked": subjects.attacked}
        self.clean = {part: self.classes(subjects.target, samples.x) for part, samples in self.samples.items()}

    def classes(self, classifier: PyTorchClassifier, x: np.ndarray) -> np.ndarray:
        """
        :param classifier: A classifier.
        :param x: Inputs `(N, ...)`.
        :return: What it predicts for them `(N,)`.
        """
        return classifier.predict(x, batch_size=self.settings.batch_size).argmax(1)

    def untouched(self) -> Found:
        """
        :return: The rows of an attack that changes nothing: what every row and every search is compared with.
        """
        attacked, held_out = (
            Row("", "", "", 0.0, None, outcomes(self.samples[part].labels, self.clean[part], self.clean[part]))
            for part in ("attacked", "held_out")
        )
        return attacked, [held_out]

    def solve(self, work: Cell | Block) -> Found | WorstCase:
        """
        :param work: What to find.
        :return: What was found.
        """
        return self.cell(work) if isinstance(work, Cell) else self.block(work)

    def cell(self, cell: Cell) -> Found:
        """
        :param cell: An attack.
        :return: Its row; before that, γ is chosen where the chain wants one and none is given.
        """
        begun = time.perf_counter()
        tuned, search = self.columns[cell.chain].tuned, []
        gamma = self.settings.gamma if tuned else None
        if tuned and gamma is None:
            search = look_for_gamma(lambda gammas: self._rows(cell, gammas, "held_out"))
            gamma = best(search).gamma
        (row,) = self._rows(cell, [gamma], "attacked", begun)
        return row, search

    def block(self, block: Block) -> WorstCase:
        """
        :param block: Some of the attacked samples.
        :return: Their worst case.
        """
        s, part = self.settings, slice(block.first, block.last)
        return evaluate(
            self.subjects.target,
            self.subjects.attacked.x[part],
            self.subjects.attacked.y[part],
            eps=s.eps,
            norm=float(s.norm),
            plan=s.plan,
            second=self.subjects.second,
            batch_size=s.batch_size,
            seed=s.seed,
            samples=np.arange(block.first, block.last),
            flags=False,
            verbose=False,
        )

    def members(self, scenario: str) -> Iterator[Member]:
        """
        :param scenario: A scenario.
        :return: What runs there at the tables' ε, with a γ in the middle of those that are tried where one is chosen.
        """
        s = self.settings
        for cell in planned(s, self.subjects):
            if (cell.scenario, cell.eps, cell.seed) == (scenario, s.eps, s.seed):
                tuned = self.columns[cell.chain].tuned
                yield self._member(cell, self.columns[cell.chain].chain(GAMMAS[0] if tuned else None))

    def images(self, cell: Cell, gamma: float | None, samples: Samples) -> np.ndarray:
        """
        :param cell: An attack.
        :param gamma: The γ that was chosen, if one was.
        :param samples: Some samples.
        :return: Its adversarial inputs, whether they fool or not.
        """
        return np.concatenate([found for _, [(found, _)] in self._attacked(cell, [gamma], samples, None)])

    def _rows(self, cell: Cell, gammas: Sequence[float | None], part: str, begun: float | None = None) -> list[Row]:
        """What each γ achieves: only what is classified correctly is attacked."""
        samples, right = self.samples[part], self.clean[part] == self.samples[part].labels
        letters = np.tile(np.where(right, RESISTED, WRONG), (len(gammas), 1))
        begun = time.perf_counter() if begun is None else begun
        for rows, found in self._attacked(cell, gammas, samples, right):
            for number, (_, fooled) in enumerate(found):
                letters[number, rows[fooled]] = FOOLED
        seconds = time.perf_counter() - begun
        return [
            Row(cell.attack, cell.scenario, cell.chain, cell.eps, gamma, "".join(line), cell.seed, seconds)
            for gamma, line in zip(gammas, letters, strict=True)
        ]

    def _attacked(
        self, cell: Cell, gammas: Sequence[float | None], samples: Samples, right: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]]:
        """Batch by batch: which samples, and for each γ what was found, and which of it fools the target.

        The first gradients of all γ come out of one simulation.
        """
        s, white = self.settings, cell.scenario == SCENARIOS[0]
        source = self.subjects.source(cell.scenario)
        members = [self._member(cell, self.columns[cell.chain].chain(gamma)) for gamma in gammas]
        chosen = np.arange(len(samples.x)) if right is None else np.flatnonzero(right)
        for start in range(0, len(chosen), s.batch_size):
            rows = chosen[start : start + s.batch_size]
            chains = [member.chain for member in members if isinstance(member.chain, BackwardChain)]
            spiking = isinstance(source, PyTorchSNNClassifier) and chains
            with source.model.sharing(chains) if spiking else nullcontext():
                tries = [
                    attempt(
                        member,
                        self.subjects.target,
                        None if white else source,
                        samples.x[rows],
                        samples.labels[rows],
                        eps=cell.eps,
                        norm=float(s.norm),
                        seed=cell.seed,
                        samples=rows,
                    )
                    for member in members
                ]
            yield rows, [(found.x, found.fooled) for found in tries]

    def _member(self, cell: Cell, chain: BackwardChain | None) -> Member:
        s, entry, white = self.settings, self.attacks[cell.attack], cell.scenario == SCENARIOS[0]
        settings = dict(entry.arguments(steps=s.steps, step_size=s.alpha(cell.eps)))
        member = Member(entry.make, chain, settings, source="target" if white else "second")
        if white or not member.is_stepped:
            return member
        return replace(member, settings={**settings, "until_fooled": False})  # what only just fools does not transfer


def look_for_gamma(attack: Callable[[Sequence[float]], list[Row]]) -> list[Row]:
    """
    :param attack: What each of some γ achieves.
    :return: All that was tried, by γ; :func:`best` chooses among it.
    """
    rows = dict(zip(GAMMAS, attack(GAMMAS), strict=True))
    while True:
        gamma = best(list(rows.values())).gamma
        assert gamma is not None
        if rows[gamma].rate.fooled in (0, rows[gamma].rate.correct):
            break  # none is fooled, or all are: γ decides nothing
        beyond = gamma / 2 if gamma == min(rows) else gamma * 2
        if beyond not in rows and GAMMA_LIMITS[0] <= beyond <= GAMMA_LIMITS[1]:
            (rows[beyond],) = attack([beyond])
        else:
            middles = [middle for middle in (0.75 * gamma, 1.5 * gamma) if min(rows) < middle < max(rows)]
            rows |= zip(middles, attack(middles), strict=True)
            break
    return [rows[gamma] for gamma in sorted(rows)]


def best(search: list[Row]) -> Row:
    """
    :param search: What several γ achieve.
    :return: The highest success rate; of equals, that of the smallest γ.
    """
    return min(search, key=lambda row: (-row.rate.fooled, row.gamma))
