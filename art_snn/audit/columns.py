"""The columns of an audit: one for each chain of their table; two where its default γ is a figure of its own.

The second, `<name>-best`, has the γ that the audit looked for, as all other chains with a γ have: of STBP, that of
Table A1 of Hao et al. (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from art_snn.chains import BackwardChain
from art_snn.chains.names import everywhere
from art_snn.chains.table import TABLE, ChainEntry
from art_snn.specs import parsed
from art_snn.surrogates import Surrogate

#: Of an attack without a gradient, or of a network without spikes, which has one gradient only.
NO_CHAIN = "none"


@dataclass(frozen=True)
class Column:
    """One column.

    :param name: Its name in the settings.
    :param title: Its name in reports.
    :param entry: Its chain.
    :param tuned: Whether its γ is chosen on held-out samples, for it alone, unless the settings give one.
    """

    name: str
    title: str
    entry: ChainEntry
    tuned: bool

    @property
    def featured(self) -> bool:
        """Whether reports draw it bold and say its rate in any case."""
        return self.entry.featured

    @property
    def usual(self) -> bool:
        """Whether an audit shows it unless told which to show."""
        return self.entry.usual

    def chain(self, gamma: float | None) -> BackwardChain | None:
        """
        :param gamma: The γ that was chosen, if one was.
        :return: The chain; None for :data:`NO_CHAIN`.
        """
        return None if self.name == NO_CHAIN else self.entry.chain(gamma)


class _Columns(Mapping[str, Column]):
    """The columns by name, as the table of chains has them now."""

    def __getitem__(self, name: str) -> Column:
        return {column.name: column for column in self._all()}[name]

    def __iter__(self) -> Iterator[str]:
        return (column.name for column in self._all())

    def __len__(self) -> int:
        return len(list(self._all()))

    def _all(self) -> Iterator[Column]:
        for name in everywhere():
            entry = TABLE[name]
            tuned = entry.at_gamma is not None
            yield Column(name, entry.title, entry, tuned and not entry.default_too)
            if tuned and entry.default_too:
                yield Column(f"{name}-best", f"{entry.title}, best γ", entry, True)


COLUMNS = _Columns()


def column(name: str) -> Column:
    """
    :param name: A column's name, :data:`NO_CHAIN`, or a chain's name with parameters, as in `hart(gamma=0.5)` or
        `stbp(surrogate=ATan(2.0), detach_reset=True)`.
    :return: The column; with parameters, one whose γ is not looked for.
    :raises ValueError: If there is no such chain, or it has no such parameter, or one of another range.
    """
    if name.lower() in COLUMNS:
        return COLUMNS[name.lower()]
    if name == NO_CHAIN:
        return Column(name, "no chain", ChainEntry(name, "no chain", BackwardChain), False)
    spec = parsed(name, {each.__name__: each for each in Surrogate.__subclasses__()})
    entry = TABLE.get(spec.name.lower())
    if entry is None:
        raise ValueError(f"there is no chain {spec.name!r}: there are {', '.join(COLUMNS)}.")
    arguments = dict(spec.arguments)
    make = entry.make
    if entry.at_gamma is not None and "gamma" in arguments:
        make = partial(entry.at_gamma, arguments.pop("gamma"))
    made = partial(make, **arguments)
    try:
        made()
    except TypeError as error:
        raise ValueError(f"{spec.name} cannot be made with {dict(spec.arguments)} ({error}).") from None
    said = ", ".join(f"{_symbol(each)} = {value}" for each, value in spec.arguments.items())
    title = f"{entry.title} ({said})" if said else entry.title
    return Column(name, title, replace(entry, name=name, title=title, make=made, at_gamma=None), False)


def _symbol(parameter: str) -> str:
    return {"gamma": "γ"}.get(parameter, parameter)
