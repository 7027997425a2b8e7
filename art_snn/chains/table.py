"""The chains by name."""

from __future__ import annotations

from art_snn.chains.base import BackwardChain
from art_snn.chains.bptr import BPTR
from art_snn.chains.cba import CBA
from art_snn.chains.hart import HART
from art_snn.chains.rate import Rate
from art_snn.chains.rga import RGA
from art_snn.chains.stbp import STBP

#: In the paper's order of Table 2 and then the rest; a mixture, which takes names from here, adds itself.
CHAINS: dict[str, type[BackwardChain]] = {
    "cba": CBA,
    "bptr": BPTR,
    "stbp": STBP,
    "rga": RGA,
    "hart": HART,
    "rate": Rate,
}


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
        try:
            return CHAINS[chain.lower()]()
        except KeyError:
            raise ValueError(f"chain must be one of {', '.join(CHAINS)}, got {chain!r}.") from None
    raise TypeError(f"chain must be a name or a BackwardChain, such as 'hart' or HART(gamma=0.8), got {chain!r}.")
