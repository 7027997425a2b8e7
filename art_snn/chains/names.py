"""The chains by name: what an entry of their table is, and how a name finds it. The table itself is in `table`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from art_snn.chains.base import BackwardChain
from art_snn.tables import Table


@dataclass(frozen=True)
class ChainEntry:
    """One line of the table of chains.

    :param name: Its name for :func:`get_chain`, the settings and the commands, in lower case.
    :param title: Its name in reports.
    :param make: What makes the chain; without arguments, with its default parameters.
    :param at_gamma: What makes it with a γ, if it has one: its half-width, or that of a part. An audit looks for the
        best.
    :param default_too: Whether an audit shows it with its default γ too, beside the γ that it looked for.
    :param learns: Whether weights can be trained along it from the command.
    :param adapted_only: Whether only networks of other libraries have it, which audits and commands do not train.
    :param usual: Whether an audit shows it unless told which to show.
    :param featured: Whether reports draw it bold and say its rate in any case.
    """

    name: str
    title: str
    make: Callable[[], BackwardChain]
    at_gamma: Callable[[float], BackwardChain] | None = None
    default_too: bool = False
    learns: bool = False
    adapted_only: bool = False
    usual: bool = True
    featured: bool = False

    def chain(self, gamma: float | None = None) -> BackwardChain:
        """
        :param gamma: A γ; the chain's default if None.
        :return: The chain.
        :raises ValueError: If it has no γ, or one of another range.
        """
        if gamma is None:
            return self.make()
        if self.at_gamma is None:
            raise ValueError(f"gamma belongs to {', '.join(with_gamma())}, chain is {self.name!r}.")
        return self.at_gamma(gamma)


#: Every chain; filled in `table`.
TABLE: Table[ChainEntry] = Table()


class _Makers(Mapping[str, Callable[[], BackwardChain]]):
    """What makes each chain of the table."""

    def __getitem__(self, name: str) -> Callable[[], BackwardChain]:
        return TABLE[name].make

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)

    def __len__(self) -> int:
        return len(TABLE)


#: The chains' types by name, as the table has them now.
CHAINS = _Makers()


def with_gamma() -> tuple[str, ...]:
    """
    :return: Names of the chains that have a γ.
    """
    return tuple(name for name, entry in TABLE.items() if entry.at_gamma is not None)


def everywhere() -> tuple[str, ...]:
    """
    :return: Names of the chains that every spiking network has.
    """
    return tuple(name for name, entry in TABLE.items() if not entry.adapted_only)


def that_learn() -> tuple[str, ...]:
    """
    :return: Names of the chains that weights can be trained along from the command.
    """
    return tuple(name for name, entry in TABLE.items() if entry.learns)


def get_chain(chain: str | BackwardChain) -> BackwardChain:
    """
    :param chain: A chain's name (any case) or a chain.
    :return: The chain; by name, with its default parameters.
    :raises ValueError: If no chain has that name.
    :raises TypeError: If it is neither a name nor a chain.
    """
    if isinstance(chain, BackwardChain):
        return chain
    if isinstance(chain, str):
        if chain.lower() not in TABLE:
            raise ValueError(f"chain must be one of {', '.join(TABLE)}, got {chain!r}.")
        return TABLE[chain.lower()].make()
    raise TypeError(f"chain must be a name or a BackwardChain, such as 'hart' or HART(gamma=0.8), got {chain!r}.")
