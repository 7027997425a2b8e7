"""What an evaluation found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from scipy.stats import binomtest

from art_snn.evaluation.flag import Flag

if TYPE_CHECKING:
    from pandas import DataFrame

#: In `fooled_by`: nothing fooled the sample; it was misclassified before.
NOTHING, BEFORE = -1, -2


@dataclass
class WorstCase:
    """The worst case over the members of a plan, sample by sample.

    :param plan: The plan, in words, with its version.
    :param attacks: Its members' attacks, in words, in the order in which they ran.
    :param chains: Their chains, in words; empty where there is none.
    :param eps: ε, on the data's scale.
    :param norm: The norm, `"inf"` or `"2"`.
    :param seed: The seed.
    :param labels: True classes `(N,)`.
    :param predictions: What was predicted for the inputs, `(N,)`.
    :param adversarial: What was predicted for `x_adv`, `(N,)`.
    :param fooled_by: The first member that fooled each sample; `NOTHING` (-1) or `BEFORE` (-2).
    :param x_adv: The adversarial input of each fooled sample, the input itself elsewhere.
    :param distances: Of `x_adv` from the inputs, in the norm of the member that found it, `(N,)`.
    :param tried: How many samples each member was tried on.
    :param seconds: How long it took.
    :param invalid: How many of its results lay outside ε or the range, or held NaN: they do not count.
    :param each: Which samples each member fools, `(members, N)`, if every member ran on every sample; None otherwise.
    :param versions: Of the packages that decide the figures.
    :param repeated: Where predictions are random, so that what most of several say counts: the lowest and the highest
        robust accuracy over single predictions of what was found. None where they are not.
    :param checks: What was examined to see whether the figure can be trusted.
    """

    plan: str
    attacks: list[str]
    chains: list[str]
    eps: float
    norm: str
    seed: int
    labels: np.ndarray
    predictions: np.ndarray
    adversarial: np.ndarray
    fooled_by: np.ndarray
    x_adv: np.ndarray
    distances: np.ndarray
    tried: list[int]
    seconds: list[float]
    invalid: list[int]
    each: np.ndarray | None = None
    versions: dict[str, str] = field(default_factory=dict)
    repeated: tuple[float, float] | None = None
    checks: list[Flag] = field(default_factory=list)

    @property
    def flags(self) -> list[Flag]:
        """What speaks against the figure: the checks that are raised. A healthy network raises none."""
        return [check for check in self.checks if check.raised]

    @property
    def survived(self) -> int:
        """How many samples were classified correctly, and are after every member."""
        return int((self.fooled_by == NOTHING).sum())

    @property
    def accuracy(self) -> float:
        """Share of all samples that are classified correctly before, from 0 to 1."""
        return float((self.fooled_by != BEFORE).mean())

    @property
    def robust_accuracy(self) -> float:
        """Share of all samples that are classified correctly, and survive every member, from 0 to 1."""
        return self.survived / len(self.labels)

    @property
    def success_rate(self) -> float:
        """ASR: of the samples classified correctly before, the share that some member fools; NaN if there is none."""
        correct = int((self.fooled_by != BEFORE).sum())
        return 1.0 - self.survived / correct if correct else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % confidence interval of the robust accuracy (Wilson, 1927)."""
        found = binomtest(self.survived, len(self.labels)).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    @cached_property
    def members(self) -> DataFrame:
        """One line for each member, in the order in which they ran: attack, chain, tried, fooled, only, seconds,
        invalid.

        `only` is how many samples nothing but this member fools. It is known if every member ran on every sample, and
        of the last member; elsewhere it is missing.
        """
        import pandas

        frame = pandas.DataFrame(
            {
                "attack": self.attacks,
                "chain": self.chains,
                "tried": self.tried,
                "fooled": [self._fooled(number) for number in range(len(self.attacks))],
                "only": pandas.array([self._only(number) for number in range(len(self.attacks))], dtype="Int64"),
                "seconds": self.seconds,
                "invalid": self.invalid,
            }
        )
        frame.index.name = "member"
        return frame

    @cached_property
    def samples(self) -> DataFrame:
        """One line for each sample: label, prediction, that for `x_adv`, the member that fooled it, distance.

        `fooled_by` is the number of a member, or missing; `correct` says whether it was classified correctly before.
        """
        import pandas

        by = [int(number) if number >= 0 else None for number in self.fooled_by]
        frame = pandas.DataFrame(
            {
                "label": self.labels,
                "prediction": self.predictions,
                "correct": self.fooled_by != BEFORE,
                "adversarial": self.adversarial,
                "fooled_by": pandas.array(by, dtype="Int64"),
                "distance": self.distances,
            }
        )
        frame.index.name = "sample"
        return frame

    def _fooled(self, number: int) -> int:
        by = self.fooled_by == number if self.each is None else self.each[number]
        return int(by.sum())

    def _only(self, number: int) -> int | None:
        if self.each is None:
            return self._fooled(number) if number == len(self.attacks) - 1 else None
        others = np.delete(self.each, number, 0).any(0)
        return int((self.each[number] & ~others).sum())

    def as_dict(self) -> dict[str, Any]:
        """
        :return: Every number but `x_adv`, as plain values.
        """
        low, high = self.interval
        return {
            "plan": self.plan,
            "eps": self.eps,
            "norm": self.norm,
            "seed": self.seed,
            "accuracy": self.accuracy,
            "robust_accuracy": self.robust_accuracy,
            "interval": [low, high],
            "members": self.members.astype(object).where(self.members.notna(), None).to_dict("records"),
            "fooled_by": [int(number) for number in self.fooled_by],
            "repeated": self.repeated,
            "checks": [asdict(check) for check in self.checks],
            "versions": self.versions,
        }

    def save(self, path: Path) -> None:
        """
        :param path: A file that is to hold all of it, for :meth:`load`.
        """
        arrays = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays["checks"] = [asdict(check) for check in self.checks]
        plain = {name: arrays.pop(name) for name in list(arrays) if not isinstance(arrays[name], np.ndarray)}
        with path.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8), **arrays)

    @classmethod
    def load(cls, path: Path) -> WorstCase:
        """
        :param path: What :meth:`save` wrote.
        :return: What was found.
        :raises FileNotFoundError: If there is no such file.
        :raises ValueError: If it is of another form.
        """
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                arrays = {name: file[name] for name in file.files}
            plain = json.loads(arrays.pop("about").tobytes())
            plain["checks"] = [Flag(**check) for check in plain["checks"]]
            plain["repeated"] = None if plain["repeated"] is None else tuple(plain["repeated"])
            return cls(**plain, **arrays)
        except (KeyError, TypeError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} holds no worst case ({type(error).__name__}: {error}).") from None

    @classmethod
    def joined(cls, parts: Sequence[WorstCase]) -> WorstCase:
        """
        :param parts: The worst cases of some samples each, over the same plan.
        :return: That of all of them.
        """
        found: dict[str, Any] = {}
        for each in fields(cls):
            values = [getattr(part, each.name) for part in parts]
            if each.name == "each":
                found[each.name] = None if values[0] is None else np.concatenate(values, axis=1)
            elif isinstance(values[0], np.ndarray):
                found[each.name] = np.concatenate(values)
            elif each.name in ("tried", "seconds", "invalid"):
                found[each.name] = [sum(numbers) for numbers in zip(*values, strict=True)]
            elif each.name == "repeated":
                found[each.name] = _joined([(part.repeated, len(part.labels)) for part in parts])
            else:
                found[each.name] = values[0]
        return cls(**found)

    def __str__(self) -> str:
        low, high = self.interval
        raised = "".join(f"FLAG {flag}\n" for flag in self.flags)
        return raised + (
            f"worst case of {len(self.attacks)} attacks ({self.plan}; ε = {self.eps:g}, L{self.norm}): "
            f"{100 * self.robust_accuracy:.1f} % of {len(self.labels)} samples are robust "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), {100 * self.accuracy:.1f} % are classified correctly"
        )


def _joined(parts: Sequence[tuple[tuple[float, float] | None, int]]) -> tuple[float, float] | None:
    """Lowest and highest robust accuracy of parts together; unknown if they are of one of them."""
    if any(ends is None for ends, _ in parts):
        return None
    total = sum(number for _, number in parts)
    low, high = (sum(ends[end] * number for ends, number in parts if ends is not None) / total for end in (0, 1))
    return low, high
