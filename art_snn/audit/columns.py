"""The columns of an audit: one for each chain of their table; two where its default γ is a figure of its own.

The second, `<name>-best`, has the γ that the audit looked for, as all other chains with a γ have: of STBP, that of
Table A1 of Hao et al. (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from art_snn.chains import BackwardChain
from art_snn.chains.names import everywhere
from art_snn.chains.table import TABLE, ChainEntry


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

    def chain(self, gamma: float | None) -> BackwardChain:
        """
        :param gamma: The γ that was chosen, if one was.
        :return: The chain.
        """
        return self.entry.chain(gamma)


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
