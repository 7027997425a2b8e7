"""The unit of an audit: one attack along one chain from one source at one ε and seed; or some samples' worst case.

Each is found by itself, in any order and on any process, and is kept under a key of everything that decides it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier

from art_snn.attacks import attack
from art_snn.attacks.table import unwrapped
from art_snn.audit.columns import NO_CHAIN, column
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS, NO_PLAN, SCENARIOS, AuditSettings
from art_snn.audit.subjects import Subjects
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation import PLANS
from art_snn.identity import as_bytes, is_plain, settings_of, type_name, versions

#: Version of the form of what is kept.
SCHEMA = 2


@dataclass(frozen=True)
class Cell:
    """One attack.

    :param attack: The attack, by its name in the settings.
    :param scenario: The scenario, by its name in the settings.
    :param chain: The chain, by its name in the settings; :data:`~art_snn.audit.columns.NO_CHAIN` if there is none.
    :param eps: ε.
    :param seed: Seed of its random numbers.
    """

    attack: str
    scenario: str
    chain: str
    eps: float
    seed: int

    def __str__(self) -> str:
        return f"{self.attack} {self.scenario} {self.chain} at ε = {self.eps:g}, seed {self.seed}"


@dataclass(frozen=True)
class Block:
    """The worst case of some of the attacked samples.

    :param first: The first sample.
    :param last: One beyond the last.
    """

    first: int
    last: int

    def __str__(self) -> str:
        return f"worst case of samples {self.first} to {self.last - 1}"


def planned(settings: AuditSettings, subjects: Subjects) -> list[Cell]:
    """
    :param settings: What to run.
    :param subjects: On whom.
    :return: All attacks: white-box at every ε, black-box at the tables' ε.
    """
    return [
        Cell(name, scenario, chain, eps, seed)
        for name in settings.attacks
        for eps in settings.all_eps()
        for scenario in settings.scenarios
        if scenario == SCENARIOS[0] or eps == settings.eps
        for chain in chains_of(settings, subjects, name, scenario)
        for seed in settings.seeds
    ]


def chains_of(settings: AuditSettings, subjects: Subjects, name: str, scenario: str) -> tuple[str, ...]:
    """
    :param settings: What to run.
    :param subjects: On whom.
    :param name: An attack of the settings.
    :param scenario: A scenario of the settings.
    :return: The chains that it runs along: none where the source has no spikes, or the attack asks for no gradient.
    """
    spiking = isinstance(subjects.source(scenario), PyTorchSNNClassifier)
    return settings.chains if spiking and attack(name).differentiates else (NO_CHAIN,)


def blocks(settings: AuditSettings, subjects: Subjects) -> list[Block]:
    """
    :param settings: What to run.
    :param subjects: On whom.
    :return: The samples of the worst case, in parts of a batch.
    """
    if settings.plan == NO_PLAN:
        return []
    size, number = settings.batch_size, len(subjects.attacked.x)
    return [Block(first, min(first + size, number)) for first in range(0, number, size)]


class Keys:
    """What decides a figure, as a hash: networks, samples, versions, and what a cell's names stand for.

    Where networks and data lie does not: what is read there does.

    :param settings: The audit's settings.
    :param subjects: Its networks and samples.
    """

    def __init__(self, settings: AuditSettings, subjects: Subjects) -> None:
        self.settings, self.subjects = settings, subjects
        self.samples = hashlib.sha256(repr((SCHEMA, sorted(versions().items()))).encode())
        for samples in (subjects.held_out, subjects.attacked):
            self.samples.update(as_bytes(samples.x) + as_bytes(samples.y))
        self.networks = {scenario: _of_classifier(subjects.source(scenario)) for scenario in settings.scenarios}
        self.second = b"" if subjects.second is None else _of_classifier(subjects.second)

    def of(self, work: Cell | Block) -> str:
        """
        :param work: What is to be found.
        :return: Its key.
        """
        digest = self.samples.copy()
        parts = [self.networks[SCENARIOS[0]], self.settings.norm, self.settings.batch_size]
        parts += self._of_block(work) if isinstance(work, Block) else self._of_cell(work)
        digest.update(as_bytes(parts))
        return digest.hexdigest()

    def of_all(self, work: Sequence[Cell | Block]) -> str:
        """
        :param work: All that an audit finds.
        :return: The key of what follows from all of it.
        """
        return hashlib.sha256("".join(self.of(each) for each in work).encode()).hexdigest()

    def _of_cell(self, cell: Cell) -> list[Any]:
        s, entry = self.settings, attack(cell.attack)
        parts = [self.networks[cell.scenario], cell.scenario == SCENARIOS[0], float(cell.eps), cell.seed]
        parts += [*_made(entry.make), sorted(entry.arguments(steps=s.steps, step_size=s.alpha(cell.eps)).items())]
        found = column(cell.chain)
        parts += [s.gamma, GAMMAS, GAMMA_LIMITS] if found.tuned else []
        chain = found.chain((s.gamma or GAMMAS[0]) if found.tuned else None)
        return parts + ([] if chain is None else list(_of_chain(chain)))

    def _of_block(self, block: Block) -> list[Any]:
        s = self.settings
        members = PLANS[s.plan].members_for(self.subjects.target, self.subjects.second, float(s.norm))
        return [self.second, str(PLANS[s.plan]), *map(str, members), s.eps, s.seed, block.first, block.last]


def _of_classifier(classifier: PyTorchClassifier) -> bytes:
    digest = hashlib.sha256(_device(classifier.device).encode())
    for part in (classifier.clip_values, classifier.input_shape, *settings_of(classifier.model)):
        digest.update(as_bytes(part))
    return digest.digest()


def _of_chain(chain: Any) -> Iterator[Any]:
    """Types and parameters, of each part of a mixture."""
    for weight, part in chain.parts():
        yield weight
        yield type_name(type(part))
        for setting, value in sorted(vars(part).items()):
            if is_plain(value) or is_dataclass(value):  # such as a surrogate, which says its parameters
                yield setting
                yield value if is_plain(value) else repr(value)


def _made(make: Any) -> Iterator[Any]:
    """What makes an attack, and what it is given."""
    keywords: dict[str, Any] = {}
    inner = make
    while isinstance(inner, partial):
        keywords = inner.keywords | keywords
        inner = inner.func
    yield type_name(unwrapped(make))
    yield [(name, repr(value)) for name, value in sorted(keywords.items())]


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
