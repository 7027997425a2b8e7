"""What an attack achieved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class SuccessRate:
    """Attack success rate (ASR), in per cent: of the samples the target classified correctly, the share it
    misclassifies after the attack.

    :param fooled: Samples misclassified after the attack.
    :param correct: Samples classified correctly before it.
    """

    fooled: int
    correct: int

    @property
    def percent(self) -> float:
        """ASR in per cent; NaN where the target classified nothing correctly."""
        return 100.0 * self.fooled / self.correct if self.correct else math.nan

    def interval(self) -> tuple[float, float]:
        """
        :return: Wilson's 95 % confidence interval of the ASR, in per cent (Wilson, 1927).
        """
        if self.correct == 0:
            return 0.0, 100.0
        found = binomtest(self.fooled, self.correct).proportion_ci(0.95, method="wilson")
        return 100.0 * float(found.low), 100.0 * float(found.high)


#: What became of a sample: fooled by the attack, or not; or misclassified before it, so that it does not count.
FOOLED, RESISTED, WRONG = "frw"


def outcomes(labels: np.ndarray, clean: np.ndarray, attacked: np.ndarray) -> str:
    """
    :param labels: True classes `(N,)`.
    :param clean: Classes predicted for the clean samples `(N,)`.
    :param attacked: Classes predicted for the attacked samples `(N,)`.
    :return: What became of each sample, one letter each: :data:`FOOLED`, :data:`RESISTED` or :data:`WRONG`.
    :raises ValueError: If the shapes differ.
    """
    if not labels.shape == clean.shape == attacked.shape:
        raise ValueError(
            f"labels, clean and attacked must have one shape: {labels.shape}, {clean.shape}, {attacked.shape}."
        )
    return "".join(np.where(clean != labels, WRONG, np.where(attacked != labels, FOOLED, RESISTED)))


@dataclass(frozen=True)
class Row:
    """One attack: its setting and what it achieved.

    :param attack: The attack, by its name in the settings.
    :param scenario: `"WBA"` or `"BBA"`.
    :param chain: The chain, by its name in the settings.
    :param eps: Perturbation ε, L∞, on the data's scale.
    :param gamma: The γ that was chosen for the chain, if one was.
    :param outcomes: What became of each sample, see :func:`outcomes`.
    :param seed: Seed of the attack's random numbers.
    :param seconds: How long it took, with the search for its γ.
    """

    attack: str
    scenario: str
    chain: str
    eps: float
    gamma: float | None
    outcomes: str
    seed: int = 0
    seconds: float = field(default=0.0, compare=False)

    @property
    def setting(self) -> tuple[str, str, str, float]:
        """Attack, scenario, chain and ε: what an audit runs once."""
        return self.attack, self.scenario, self.chain, self.eps

    @property
    def rate(self) -> SuccessRate:
        """Its success rate."""
        return SuccessRate(self.outcomes.count(FOOLED), len(self.outcomes) - self.outcomes.count(WRONG))

    def as_dict(self) -> dict[str, Any]:
        """
        :return: The row as plain values; ASR and its 95 % interval in per cent, ASR None where there is none.
        """
        rate = self.rate
        low, high = rate.interval()
        plain = asdict(self)
        letters = plain.pop("outcomes")
        percent = rate.percent if rate.correct else None
        return plain | {"asr": percent, "asr_low": low, "asr_high": high} | asdict(rate) | {"outcomes": letters}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Row:
        """
        :param plain: What :meth:`as_dict` gave.
        :return: The row.
        :raises ValueError: If its letters are no outcomes.
        """
        row = cls(**{each.name: plain[each.name] for each in fields(cls)})
        if not set(row.outcomes) <= {FOOLED, RESISTED, WRONG}:
            raise ValueError(f"outcomes must consist of {FOOLED}, {RESISTED} and {WRONG}, got {row.outcomes!r}.")
        return row


def check_same_samples(rows: Sequence[Row]) -> None:
    """
    :param rows: Rows of one table.
    :raises ValueError: If they are not of the same samples, of which the target classifies the same correctly.
    """
    for row in rows[1:]:
        if _counted(row) != _counted(rows[0]):
            one, other = (
                f"{r.attack} {r.scenario} {r.chain} at ε = {r.eps:g}: {r.rate.correct} of {len(r.outcomes)}"
                for r in (rows[0], row)
            )
            raise ValueError(
                f"rows of one table must be of the same samples, correct before the attack ({one}; {other})."
            )


def _counted(row: Row) -> list[bool]:
    return [letter != WRONG for letter in row.outcomes]


@dataclass(frozen=True)
class Paired:
    """Two attacks on the same samples, compared sample by sample.

    :param first: Samples that only the first fools.
    :param second: Samples that only the second fools.
    """

    first: int
    second: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided (McNemar, 1947): how likely counts at least so uneven are, if a sample that
        only one of the two fools is as likely to be the one's as the other's."""
        total = self.first + self.second
        return float(binomtest(self.first, total).pvalue) if total else 1.0


def paired(first: Row, second: Row) -> Paired:
    """
    :param first: An attack.
    :param second: Another, on the same samples.
    :return: How they differ, sample by sample.
    :raises ValueError: If the samples are not the same.
    """
    check_same_samples([first, second])
    both = list(zip(first.outcomes, second.outcomes, strict=True))
    return Paired(both.count((FOOLED, RESISTED)), both.count((RESISTED, FOOLED)))
