"""The audit: attack a trained target under every chain, white-box and black-box.

White-box (WBA): the gradient is the target's. Black-box (BBA): the gradient is that of a second network of the same
shape, trained with another seed; its adversarial images are shown to the target (Hao et al., ICLR 2024, A.2.5).

γ belongs to a setting, not to a network: for each chain, attack, ε and scenario it is the one with the highest success
rate on held-out samples, which no reported rate uses. The rate has one peak along γ (section 4.3), so the search takes
γ = 1, 2 and 4; halves or doubles γ while the best lies at an edge; and then takes the middles between the best and its
neighbours. Ties go to the smaller γ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from art_snn.attacks import ATTACKS
from art_snn.audit.columns import COLUMNS
from art_snn.audit.kept import Found, Kept, key
from art_snn.audit.metrics import Row, check_same_samples, outcomes
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS, NO_PLAN, AuditSettings
from art_snn.audit.subjects import Samples, Subjects, embedded, given, own
from art_snn.chains import BackwardChain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation import PLANS, WorstCase, evaluate
from art_snn.files import held

BATCH = 128
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
    :param examples: Clean images, and their adversarial images by chain, of the white-box attack at the tables' ε.
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
    examples: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """
        :raises ValueError: If rows that stand together are not of the same samples.
        """
        check_same_samples(self.rows)
        check_same_samples(self.search)

    def at_limit(self) -> list[Row]:
        """
        :return: Rows whose γ is where the search ended, so that a better one may lie beyond.
        """
        return [row for row in self.rows if self.settings.gamma is None and row.gamma in GAMMA_LIMITS]

    def rate(self, attack: str, scenario: str, chain: str, eps: float) -> Row:
        """
        :param attack: An attack of the settings.
        :param scenario: `"WBA"` or `"BBA"`.
        :param chain: A chain of the settings.
        :param eps: An ε of the settings.
        :return: The row of that attack.
        """
        return next(row for row in self.rows if row.setting == (attack, scenario, chain, eps))

    def strongest(self, attack: str, scenario: str) -> list[str]:
        """
        :param attack: An attack of the settings.
        :param scenario: `"WBA"` or `"BBA"`.
        :return: The chains with the highest success rate at the tables' ε.
        """
        rates = {c: self.rate(attack, scenario, c, self.settings.eps).rate.fooled for c in self.settings.chains}
        return [chain for chain, fooled in rates.items() if fooled == max(rates.values())]


def run_audit(
    settings: AuditSettings,
    folder: Path,
    start: Callable[[str, int], None] = lambda what, total: None,
    advance: Callable[[], None] = lambda: None,
    write: Callable[[AuditResult], None] = lambda result: None,
) -> AuditResult:
    """Train the two networks of the embedded digits, or load the given ones; choose γ; attack.

    :param settings: What to run.
    :param folder: Where trained networks are kept and, until the audit is complete, the attacks that are finished; it
        is made.
    :param start: Called with a name and a number of steps when a stage begins.
    :param advance: Called after each step of a stage; what the step found is kept once it returns.
    :param write: Called with the result before the attacks that are kept in the folder are deleted, to write it
        elsewhere; if it fails, they stay.
    :return: What was found.
    :raises ValueError: If kept networks or attacks, or given networks, cannot be used, or settings do not fit their
        data.
    :raises FolderInUse: If another run writes to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        return _run(settings, folder, start, advance, write)


def _run(
    settings: AuditSettings,
    folder: Path,
    start: Callable[[str, int], None],
    advance: Callable[[], None],
    write: Callable[[AuditResult], None],
) -> AuditResult:
    if settings.network is not None:
        start("loading", 1)
        subjects = own(settings)
        advance()
    elif settings.target is None:
        start("training", 2 * settings.epochs)
        subjects = embedded(settings, folder, advance)
    else:
        start("loading", 1)
        subjects = given(settings)
        advance()
    attacks, attacked = _Attacks(settings, subjects), subjects.attacked
    clean = [attacks.clean["attacked"] == attacked.labels]
    if subjects.second is not None:
        clean.append(_classes(subjects.second, attacked.x) == attacked.labels)
    accuracy = [100.0 * float(correct.mean()) for correct in clean]
    result = AuditResult(
        settings,
        subjects.description,
        subjects.seeds,
        (accuracy[0], accuracy[1] if len(accuracy) > 1 else None),
        subjects.fresh,
        len(subjects.held_out.x),
        None if attacked.indices is None else [int(index) for index in attacked.indices],
        subjects.data,
    )
    plan = list(_plan(settings))
    start("attacks", len(plan) * len(settings.chains))
    kept = Kept(folder, key(settings, subjects), attacks.untouched())
    for attack, scenario, eps in plan:
        for name in settings.chains:
            found = kept.get(attack, scenario, name, eps)
            if found is None:
                found = attacks.run(attack, scenario, name, eps)
                advance()  # an interruption that was swallowed meanwhile is raised here: what it touched is not kept
                kept.add(found)
            else:
                advance()
            row, search = found
            result.rows.append(row)
            result.search += search
    result.check()
    few = Samples(attacked.x[:EXAMPLES], attacked.y[:EXAMPLES])
    result.examples["clean"] = few.x
    for name in settings.chains:
        gamma = result.rate(settings.attacks[-1], "WBA", name, settings.eps).gamma
        chains = [COLUMNS[name].chain(gamma)]
        (result.examples[name],) = attacks.images(settings.attacks[-1], "WBA", chains, settings.eps, few)
    if settings.plan != NO_PLAN:
        start("worst case", len(PLANS[settings.plan].members_for(subjects.target, subjects.second)))
        result.worst = evaluate(
            subjects.target,
            attacked.x,
            attacked.y,
            eps=settings.eps,
            plan=settings.plan,
            second=subjects.second,
            batch_size=BATCH,
            seed=settings.seed,
            folder=folder,
            verbose=False,
            advance=advance,
        )
    write(result)
    kept.forget()
    return result


def _plan(settings: AuditSettings) -> Iterator[tuple[str, str, float]]:
    """Attack, scenario and ε of everything that is run: the sweep is white-box."""
    for attack in settings.attacks:
        for eps in settings.all_eps():
            for scenario in settings.scenarios:
                if scenario == "WBA" or eps == settings.eps:
                    yield attack, scenario, eps


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


class _Attacks:
    """ART's own attacks on an audit's subjects, unchanged."""

    def __init__(self, settings: AuditSettings, subjects: Subjects) -> None:
        self.settings, self.subjects = settings, subjects
        self.samples = {"held_out": subjects.held_out, "attacked": subjects.attacked}
        self.clean = {part: _classes(subjects.target, samples.x) for part, samples in self.samples.items()}

    def untouched(self) -> Found:
        """The rows of an attack that changes nothing: what every row and every search is compared with."""
        attacked, held_out = (
            Row("", "", "", 0.0, None, outcomes(self.samples[part].labels, self.clean[part], self.clean[part]))
            for part in ("attacked", "held_out")
        )
        return attacked, [held_out]

    def run(self, attack: str, scenario: str, name: str, eps: float) -> Found:
        """Choose γ where the chain wants one and none is given, then attack the test samples."""
        tuned, search = COLUMNS[name].tuned, []
        gamma = self.settings.gamma if tuned else None
        if tuned and gamma is None:
            search = look_for_gamma(lambda gammas: self._rows(attack, scenario, name, eps, gammas, "held_out"))
            gamma = best(search).gamma
        (row,) = self._rows(attack, scenario, name, eps, [gamma], "attacked")
        return row, search

    def _rows(
        self, attack: str, scenario: str, name: str, eps: float, gammas: Sequence[float | None], part: str
    ) -> list[Row]:
        samples, rows = self.samples[part], []
        chains = [COLUMNS[name].chain(gamma) for gamma in gammas]
        for gamma, images in zip(gammas, self.images(attack, scenario, chains, eps, samples), strict=True):
            after = _classes(self.subjects.target, images)
            rows.append(Row(attack, scenario, name, eps, gamma, outcomes(samples.labels, self.clean[part], after)))
        return rows

    def images(
        self, attack: str, scenario: str, chains: Sequence[BackwardChain], eps: float, samples: Samples
    ) -> list[np.ndarray]:
        """Adversarial images by each of some chains, whose first gradients come out of one simulation."""
        source = self.subjects.target if scenario == "WBA" else self.subjects.second
        assert source is not None
        method = ATTACKS[attack].on(
            source, eps=eps, batch_size=BATCH, steps=self.settings.steps, step_size=self.settings.alpha(eps)
        )
        found: list[list[np.ndarray]] = [[] for _ in chains]
        for start in range(0, len(samples.x), BATCH):
            batch = slice(start, start + BATCH)
            with source.model.sharing(chains):
                for images, chain in zip(found, chains, strict=True):
                    source.chain = chain
                    with chain.run():  # one attack on fixed samples, for chains with state
                        images.append(method.generate(samples.x[batch], samples.y[batch]))
        return [np.concatenate(images) for images in found]


def _classes(classifier: PyTorchSNNClassifier, x: np.ndarray) -> np.ndarray:
    return classifier.predict(x, batch_size=BATCH).argmax(1)
