"""A flag: what was measured, from where on it is raised, and what it means for a claim."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One check.

    :param name: Its name.
    :param value: What was measured; None if it could not be.
    :param limit: From where on it is raised.
    :param meaning: What that means for a claim, in a sentence.
    :param raised: Whether it is raised.
    """

    name: str
    value: float | None
    limit: float
    meaning: str
    raised: bool

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.3g}"
        return f"{self.name} ({value}, limit {self.limit:g}): {self.meaning}"
