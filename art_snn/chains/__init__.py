"""Backward chains: one file each, every file opens with its equation.

========  =======================================================================
`stbp`    back-propagation through time, Eq. 15 for ∂s/∂m
`hart`    the hybrid attack, Eqs. 13-15
`rate`    the rate gradient, Eqs. 9-11
`rga`     rate gradient approximation
`bptr`    back-propagation through rate
`cba`     conversion-based approximation
`mixed`   a weighted sum of the above, Eq. A6; HART and STBP in equal parts
========  =======================================================================
"""

from __future__ import annotations

from art_snn.chains.base import BackwardChain
from art_snn.chains.bptr import BPTR
from art_snn.chains.cba import CBA
from art_snn.chains.hart import HART
from art_snn.chains.mixed import Mixed
from art_snn.chains.rate import Rate
from art_snn.chains.rga import RGA
from art_snn.chains.stbp import STBP

__all__ = ["BPTR", "CBA", "CHAINS", "HART", "RGA", "STBP", "BackwardChain", "Mixed", "Rate", "get_chain"]

#: The chains by name, in the paper's order of Table 2 and then the rest.
CHAINS: dict[str, type[BackwardChain]] = {
    "cba": CBA,
    "bptr": BPTR,
    "stbp": STBP,
    "rga": RGA,
    "hart": HART,
    "rate": Rate,
    "mixed": Mixed,
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
