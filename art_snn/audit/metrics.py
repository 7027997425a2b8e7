"""What an attack achieved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


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

    def interval(self, z: float = 1.959964) -> tuple[float, float]:
        """
        :param z: Quantile of the normal distribution; 95 % unless given.
        :return: Wilson's confidence interval of the ASR, in per cent (Wilson, 1927).
        """
        n = self.correct
        if n == 0:
            return 0.0, 100.0
        p = self.fooled / n
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return 100.0 * max(0.0, centre - half), 100.0 * min(1.0, centre + half)


def success_rate(labels: np.ndarray, clean: np.ndarray, attacked: np.ndarray) -> SuccessRate:
    """
    :param labels: True classes `(N,)`.
    :param clean: Classes predicted for the clean samples `(N,)`.
    :param attacked: Classes predicted for the attacked samples `(N,)`.
    :return: The attack's success rate.
    :raises ValueError: If the shapes differ.
    """
    if not labels.shape == clean.shape == attacked.shape:
        raise ValueError(
            f"labels, clean and attacked must have one shape: {labels.shape}, {clean.shape}, {attacked.shape}."
        )
    correct = clean == labels
    return SuccessRate(int(np.sum(attacked[correct] != labels[correct])), int(correct.sum()))


@dataclass(frozen=True)
class Row:
    """One attack: its setting and what it achieved.

    :param attack: `"fgsm"` or `"pgd"`.
    :param scenario: `"WBA"` or `"BBA"`.
    :param chain: The chain, by its name in the settings.
    :param eps: Perturbation ε, L∞, on the data's scale.
    :param gamma: The γ that was chosen for the chain, if one was.
    :param rate: Its success rate.
    """

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
        return plain | {"asr": self.rate.percent, "asr_low": low, "asr_high": high} | asdict(self.rate)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Row:
        """
        :param plain: What :meth:`as_dict` gave.
        :return: The row.
        """
        setting = {name: plain[name] for name in ("attack", "scenario", "chain", "eps", "gamma")}
        return cls(**setting, rate=SuccessRate(plain["fooled"], plain["correct"]))
