"""The audit: attack a trained target under every chain, white-box and black-box.

White-box (WBA): the gradient is the target's. Black-box (BBA): the gradient is that of a second network of the same
shape, trained with another seed; its adversarial images are shown to the target (Hao et al., ICLR 2024, A.2.5).

γ belongs to a setting, not to a network: for each attack, ε and scenario it is the one of a few equally spaced points
(section 4.3) with the highest success rate on held-out samples, which no reported rate uses. Ties go to the smaller γ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent

from art_snn.audit.metrics import SuccessRate, success_rate
from art_snn.audit.settings import GAMMAS, TUNED, AuditSettings
from art_snn.audit.subjects import Samples, embedded, given
from art_snn.chains import HART, STBP, BackwardChain, Mixed, get_chain
from art_snn.classifier import PyTorchSNNClassifier

SCENARIOS = ("WBA", "BBA")
BATCH = 128


@dataclass(frozen=True)
class Row:
    """One attack: its setting and what it achieved."""

    attack: str
    scenario: str
    chain: str
    eps: float
    gamma: float | None
    rate: SuccessRate

    def as_dict(self) -> dict[str, Any]:
        """
        :return: The row as plain numbers; ASR and its 95 % interval in per cent.
        """
        low, high = self.rate.interval()
        plain = {key: value for key, value in asdict(self).items() if key != "rate"}
        return plain | {
            "asr": self.rate.percent,
            "asr_low": low,
            "asr_high": high,
            "fooled": self.rate.fooled,
            "correct": self.rate.correct,
        }


@dataclass
class AuditResult:
    """All that an audit found.

    :param settings: What was run.
    :param description: The target, in words.
    :param seeds: Seeds of data, target and second network.
    :param accuracy: Clean accuracy in per cent, of the target and of the second network, on the attacked samples.
    :param trained: Whether target and second network were trained in this run.
    :param held_out: Number of samples on which γ was chosen.
    :param rows: Success rates: white-box at every ε, black-box at the tables' ε.
    :param search: Success rates on the held-out samples from which γ was chosen.
    :param examples: Clean images, and their adversarial images by chain, of the white-box attack at the tables' ε.
    """

    settings: AuditSettings
    description: str
    seeds: dict[str, int]
    accuracy: tuple[float, float]
    trained: tuple[bool, bool]
    held_out: int
    rows: list[Row] = field(default_factory=list)
    search: list[Row] = field(default_factory=list)
    examples: dict[str, np.ndarray] = field(default_factory=dict)

    def rate(self, attack: str, scenario: str, chain: str, eps: float) -> Row:
        """
        :param attack: `"fgsm"` or `"pgd"`.
        :param scenario: `"WBA"` or `"BBA"`.
        :param chain: A chain of the settings.
        :param eps: An ε of the settings.
        :return: The row of that attack.
        """
        key = (attack, scenario, chain, eps)
        return next(row for row in self.rows if (row.attack, row.scenario, row.chain, row.eps) == key)

    def strongest(self, attack: str, scenario: str) -> list[str]:
        """
        :param attack: `"fgsm"` or `"pgd"`.
        :param scenario: `"WBA"` or `"BBA"`.
        :return: The chains with the highest success rate at the tables' ε.
        """
        rates = {c: self.rate(attack, scenario, c, self.settings.eps).rate.fooled for c in self.settings.chains}
        return [chain for chain, fooled in rates.items() if fooled == max(rates.values())]


def run_audit(
    settings: AuditSettings,
    networks: Path,
    start: Callable[[str, int], None] = lambda what, total: None,
    advance: Callable[[], None] = lambda: None,
) -> AuditResult:
    """Train the two networks of the embedded digits, or load the given ones; choose γ; attack.

    :param settings: What to run.
    :param networks: Folder where trained networks are kept; it exists.
    :param start: Called with a name and a number of steps when a stage begins.
    :param advance: Called after each step of a stage.
    :return: What was found.
    :raises ValueError: If kept or given networks cannot be used, or settings do not fit their data.
    """
    if settings.target is None:
        start("training", 2 * settings.epochs)
        subjects = embedded(settings, networks, advance)
    else:
        subjects = given(settings)
    target, second, held_out, attacked = subjects.target, subjects.second, subjects.held_out, subjects.attacked
    accuracy = tuple(100.0 * float(np.mean(_classes(c, attacked.x) == attacked.labels)) for c in (target, second))
    result = AuditResult(
        settings,
        subjects.description,
        subjects.seeds,
        (accuracy[0], accuracy[1]),
        subjects.fresh,
        len(held_out.x),
    )
    plan = list(_plan(settings))
    start("attacks", len(plan))
    clean = _classes(target, attacked.x)
    for attack, scenario, eps in plan:
        source = target if scenario == "WBA" else second
        gammas: dict[str, float] = {}
        for name in settings.chains:
            chain, gamma = _chain(name, settings, gammas, attack, scenario, eps, source, target, held_out, result)
            images = _generate(attack, source, chain, eps, settings, attacked)
            rate = success_rate(attacked.labels, clean, _classes(target, images))
            result.rows.append(Row(attack, scenario, name, eps, gamma, rate))
            if scenario == "WBA" and eps == settings.eps and attack == settings.attacks[-1]:
                result.examples[name] = images[:8]
        advance()
    result.examples["clean"] = attacked.x[:8]
    return result


def _plan(settings: AuditSettings) -> Iterator[tuple[str, str, float]]:
    """Attack, scenario and ε of everything that is run: the sweep is white-box."""
    for attack in settings.attacks:
        for eps in settings.all_eps():
            for scenario in SCENARIOS:
                if scenario == "WBA" or eps == settings.eps:
                    yield attack, scenario, eps


def _chain(
    name: str,
    settings: AuditSettings,
    gammas: dict[str, float],
    attack: str,
    scenario: str,
    eps: float,
    source: PyTorchSNNClassifier,
    target: PyTorchSNNClassifier,
    held_out: Samples,
    result: AuditResult,
) -> tuple[BackwardChain, float | None]:
    """The chain of that name for this attack, and the γ that was chosen for it."""
    if name not in TUNED:
        return get_chain(name), None
    make: type[HART] | type[STBP] = STBP if name == "stbp-best" else HART
    tuned = "hart" if make is HART else name
    if tuned not in gammas:
        gammas[tuned] = settings.gamma or _search(
            tuned, make, settings, attack, scenario, eps, source, target, held_out, result
        )
    chain = make(gammas[tuned])
    return (Mixed([chain, STBP()]) if name == "mixed" else chain), gammas[tuned]


def _search(
    name: str,
    make: type[HART] | type[STBP],
    settings: AuditSettings,
    attack: str,
    scenario: str,
    eps: float,
    source: PyTorchSNNClassifier,
    target: PyTorchSNNClassifier,
    held_out: Samples,
    result: AuditResult,
) -> float:
    """The γ with the highest success rate on the held-out samples; the smallest of equals."""
    clean = _classes(target, held_out.x)
    best, chosen = -1, GAMMAS[0]
    for gamma in GAMMAS:
        images = _generate(attack, source, make(gamma), eps, settings, held_out)
        rate = success_rate(held_out.labels, clean, _classes(target, images))
        result.search.append(Row(attack, scenario, name, eps, gamma, rate))
        if rate.fooled > best:
            best, chosen = rate.fooled, gamma
    return chosen


def _generate(
    attack: str,
    source: PyTorchSNNClassifier,
    chain: BackwardChain,
    eps: float,
    settings: AuditSettings,
    samples: Samples,
) -> np.ndarray:
    """Adversarial images by ART's own attack, unchanged."""
    source.chain = chain
    if attack == "fgsm":
        method = FastGradientMethod(source, eps=eps, batch_size=BATCH)
    else:
        method = ProjectedGradientDescent(
            source, eps=eps, eps_step=settings.alpha(eps), max_iter=settings.steps, batch_size=BATCH, verbose=False
        )
    return method.generate(samples.x, samples.y)


def _classes(classifier: PyTorchSNNClassifier, x: np.ndarray) -> np.ndarray:
    return classifier.predict(x, batch_size=BATCH).argmax(1)
