"""A setting stands once: name, type, default, range and meaning in one line of a dataclass.

Its check, the class's documentation and the command's option (`art_snn.cli.options`) follow from that line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import partial
from typing import Any, TypeVar

from art_snn.encoders import NAMES
from art_snn.neurons import RESETS

Settings = TypeVar("Settings")

#: What a value must be: called with the setting's name and the value, it raises ValueError if it is not.
Check = Callable[[str, Any], None]


@dataclass(frozen=True)
class Whole:
    """A whole number.

    :param least: The smallest.
    :param most: The largest.
    """

    least: int
    most: int

    def __call__(self, name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise ValueError(f"{name} must be a whole number from {self.least} to {self.most}, got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Number:
    """A finite number in a range, of which each end belongs to it or does not.

    :param above: It is larger.
    :param least: Or: it is at least this.
    :param below: It is smaller.
    :param most: Or: it is at most this.
    """

    above: float = -math.inf
    least: float = -math.inf
    below: float = math.inf
    most: float = math.inf

    def __call__(self, name: str, value: Any) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not (self.above < value < self.below and self.least <= value <= self.most):
            raise ValueError(f"{name} must be a number {self}, got {value!r}.")

    def __str__(self) -> str:
        ends = {"above": self.above, "of at least": self.least, "below": self.below, "at most": self.most}
        return " and ".join(f"{word} {end:g}" for word, end in ends.items() if math.isfinite(end))


class OneOf:
    """A name out of some.

    :param names: The names, in parts: tables, tuples, or what gives some; a name that is added to one later counts.
    """

    def __init__(self, *names: Iterable[str] | Callable[[], Iterable[str]]) -> None:
        self.parts = names

    @property
    def names(self) -> list[str]:
        """The names, as they are now."""
        return [name for part in self.parts for name in (part() if callable(part) else part)]

    def __str__(self) -> str:
        """The names in words, each with what its entry notes of it."""
        noted = [f"{name} ({note})" if (note := self._note(name)) else name for name in self.names]
        return " or ".join([*filter(None, [", ".join(noted[:-1])]), noted[-1]])

    def _note(self, name: str) -> str:
        entries = (part[name] for part in self.parts if isinstance(part, Mapping) and name in part)
        return next((getattr(entry, "note", "") for entry in entries), "")

    def __call__(self, name: str, value: Any) -> None:
        if value not in self.names:
            raise ValueError(f"{name} must be one of {', '.join(self.names)}, got {value!r}.")


class Some(OneOf):
    """Some different names out of these, in a tuple; those whose entry does not say that it is not `usual` by
    default."""

    @property
    def usual(self) -> tuple[str, ...]:
        """The names by default, as they are now."""
        entries = {name: part[name] for part in self.parts if isinstance(part, Mapping) for name in part}
        return tuple(name for name in self.names if getattr(entries.get(name), "usual", True))

    def __call__(self, name: str, value: Any) -> None:
        if not value or not set(value) <= set(self.names) or len(set(value)) < len(value):
            raise ValueError(f"{name} must be different ones of {', '.join(self.names)}, got {', '.join(value)!r}.")


class Specs(Some):
    """Some different names out of these, each of which may have parameters, in a tuple.

    :param find: What finds an entry by its name with parameters; ValueError if there is none.
    :param names: As of :class:`OneOf`.
    """

    def __init__(self, find: Callable[[str], Any], *names: Iterable[str] | Callable[[], Iterable[str]]) -> None:
        super().__init__(*names)
        self.find = find

    def __call__(self, name: str, value: Any) -> None:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"{name} must be different ones of {', '.join(self.names)}, got {', '.join(value)!r}.")
        for each in value:
            try:
                self.find(each)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


@dataclass(frozen=True)
class Each:
    """Several values, in a tuple.

    :param check: What each must be.
    """

    check: Check

    def __call__(self, name: str, value: Any) -> None:
        for each in value:
            self.check(name, each)


@dataclass(frozen=True)
class About:
    """What is known of a setting besides its name, type and default.

    :param meaning: What it is, in a sentence; without its full stop where names follow.
    :param check: What its value must be, unless it is None by default and not given.
    :param unset: What holds where it is None.
    :param off: Of a switch that is on or off: the option that turns it off, if there is one.
    """

    meaning: str
    check: Check | None = None
    unset: str | None = None
    off: str | None = None

    @property
    def text(self) -> str:
        """Its meaning, with the names it can have now."""
        return f"{self.meaning}: {self.check}." if isinstance(self.check, OneOf) else self.meaning


def setting(default: Any, meaning: str, check: Check | None = None, **about: Any) -> Any:
    """
    :param default: Its default; where the check is for :class:`Some`, ... stands for the usual ones.
    :param meaning: What it is, in a sentence.
    :param check: What its value must be.
    :param about: More of :class:`About`.
    :return: A field of a dataclass.
    """
    metadata = {"about": About(meaning, check, **about)}
    if default is ... and isinstance(check, Some):
        return field(default_factory=lambda: check.usual, metadata=metadata)
    return field(default=default, metadata=metadata)


def about(each: Field[Any]) -> About:
    """
    :param each: A field that :func:`setting` made.
    :return: What is known of it.
    """
    return each.metadata["about"]


def default(each: Field[Any]) -> Any:
    """
    :param each: A field that :func:`setting` made.
    :return: Its default, as it is now.
    """
    return each.default if each.default_factory is MISSING else each.default_factory()


def is_default(settings: Any, name: str) -> bool:
    """
    :param settings: Settings.
    :param name: One of them.
    :return: Whether it has its default.
    """
    return getattr(settings, name) == next(default(each) for each in fields(settings) if each.name == name)


def check(settings: Any) -> None:
    """
    :param settings: Settings, whose values are checked, each by itself.
    :raises ValueError: If one is not what it must be; the message begins with its name.
    """
    for each in fields(settings):
        value, wanted = getattr(settings, each.name), about(each).check
        if wanted is not None and not (value is None and each.default is None):
            wanted(each.name, value)


def documented(settings: type[Settings]) -> type[Settings]:
    """Write the settings into their class's documentation.

    :param settings: A dataclass of settings.
    :return: It.
    """
    lines = [f":param {each.name}: {_sentence(each)}" for each in fields(settings)]  # type: ignore[arg-type]
    raises = ":raises ValueError: If a setting is out of its range, or two of them do not go together."
    settings.__doc__ = "\n    ".join([f"{(settings.__doc__ or '').rstrip()}\n", *lines, f"{raises}\n"])
    return settings


def _sentence(each: Field[Any]) -> str:
    known = about(each)
    if each.default is None:
        return f"{known.meaning} {known.unset[:1].upper()}{known.unset[1:]} if None." if known.unset else known.meaning
    return known.text


SEEDS = Whole(0, 2**31 - 2)

# Settings of both commands, but for what is said in the class.
EPS = partial(setting, check=Number(above=0.0))
STEPS = partial(setting, 5, "Steps of an attack that goes in steps, such as PGD.", Whole(1, 10_000))
STEP_SIZE = partial(
    setting, None, "Step α of such an attack, on the data's scale.", Number(above=0.0), unset="ε/4, the paper's ratio"
)
TIME_STEPS = partial(setting, 8, "Number of time steps T.", Whole(1, 1_000))
DECAY = partial(setting, 0.9, "Membrane factor λ; 1 is the IF neuron.", Number(above=0.0, most=1.0))
RESET = partial(setting, "hard", "Reset of the membrane potential after a spike", OneOf(RESETS))
ENCODER = partial(setting, "direct", check=OneOf(NAMES))
EPOCHS = partial(setting, meaning="Epochs of training.", check=Whole(1, 100_000))
SEED = partial(setting, 0, check=SEEDS)
DEVICE = partial(setting, "cpu", "Where it is computed", OneOf(("cpu", "gpu")))


def alpha(eps: float, step_size: float | None) -> float:
    """
    :param eps: ε of an attack.
    :param step_size: Its step, if one is set.
    :return: Its step α.
    """
    return step_size if step_size is not None else eps / 4
