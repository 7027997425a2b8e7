"""Entries by name: what the tables of chains, attacks and data sets are made of."""

from __future__ import annotations

from typing import Protocol, TypeVar


class Named(Protocol):
    """What a table holds."""

    @property
    def name(self) -> str:
        """The entry's name, as settings and commands give it."""


Entry = TypeVar("Entry", bound=Named)


class Table(dict[str, Entry]):
    """Entries by their names, in the order in which they are listed.

    :param entries: The entries.
    :raises ValueError: If two have one name.
    """

    def __init__(self, *entries: Entry) -> None:
        super().__init__()
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """
        :param entry: One more entry; `del table[name]` takes it out again.
        :raises ValueError: If its name is taken.
        """
        if entry.name in self:
            raise ValueError(f"name must be another than that of an entry, got {entry.name!r}.")
        self[entry.name] = entry
