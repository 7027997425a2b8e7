"""Can an audit's figures be trusted? The flags of its worst case, and those that its own attacks are enough for."""

from __future__ import annotations

import numpy as np

from art_snn.audit.metrics import FOOLED, WRONG, Row
from art_snn.audit.settings import SCENARIOS
from art_snn.audit.solve import Solver
from art_snn.evaluation import PLANS, Flag, WorstCase
from art_snn.evaluation.trust import examine, few, of_worst_case
from art_snn.evaluation.trust.examine import BEYOND, of_its_own_gradient
from art_snn.evaluation.trust.sample import percent


def checks(solver: Solver, rows: list[Row], worst: WorstCase | None) -> list[Flag]:
    """
    :param solver: The audit's subjects.
    :param rows: What its attacks achieved.
    :param worst: Its worst case, if there is one.
    :return: All flags, raised or not.
    """
    settings, subjects = solver.settings, solver.subjects
    at = [row for row in rows if row.eps == settings.eps]
    white = [row for row in at if row.scenario == SCENARIOS[0]]
    correct = _where(at[:1], WRONG, all_but=True)
    members, own = list(solver.members(SCENARIOS[0])), _where(white, FOOLED)
    if worst is None:
        left = correct & ~own
        interval = max(white, key=lambda row: row.rate.fooled).rate.interval()
        found = [few((interval[0] / 100, interval[1] / 100))]
    else:
        planned = PLANS[settings.plan].members_for(subjects.target, subjects.second, float(settings.norm))
        left = correct & (worst.fooled_by < 0)
        own = own | of_its_own_gradient(worst, planned)
        found = of_worst_case(worst, planned)
        members += planned
    found = [check for check in found if check.name != "white-below-black"]
    if black := [row for row in at if row.scenario != SCENARIOS[0]]:
        found.append(_transferred(black, own))
    measured = examine(
        subjects.target,
        subjects.attacked.x,
        subjects.attacked.labels,
        eps=settings.eps,
        norm=float(settings.norm),
        seed=settings.seed,
        correct=correct,
        left=left,
        members=members,
        batch_size=settings.batch_size,
    )
    return found + measured


def _transferred(black: list[Row], own: np.ndarray) -> Flag:
    """Samples that another network's adversarial inputs fool, and no attack along the target's own gradient."""
    share = float((_where(black, FOOLED) & ~own).mean())
    meaning = (
        f"another network's adversarial inputs fool {percent(share)} of the samples that no attack along the network's "
        "own gradient does" + (": its gradients hide them." if share > BEYOND else ".")
    )
    return Flag("white-below-black", share, BEYOND, meaning, share > BEYOND)


def _where(rows: list[Row], letter: str, all_but: bool = False) -> np.ndarray:
    """Samples with that letter in some row, or without it."""
    found = np.array([list(row.outcomes) for row in rows]) == letter
    return ~found.any(0) if all_but else found.any(0)
