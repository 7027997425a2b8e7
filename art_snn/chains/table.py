"""The table of chains: one line each, and all that commands, settings and reports know of them."""

from __future__ import annotations

from art_snn.chains.adaptive import AdaptiveHART, AnnealedHART, OneStepHART
from art_snn.chains.assg import ASSG
from art_snn.chains.bptr import BPTR
from art_snn.chains.cba import CBA
from art_snn.chains.hart import HART
from art_snn.chains.mixed import Mixed
from art_snn.chains.names import CHAINS, TABLE, ChainEntry, get_chain
from art_snn.chains.native import Native
from art_snn.chains.pdsg import PDSG
from art_snn.chains.rate import Rate
from art_snn.chains.rga import RGA
from art_snn.chains.stbp import STBP

__all__ = ["CHAINS", "TABLE", "ChainEntry", "get_chain"]

for entry in (  # in the order of the paper's Table 2, later ones, and then the rest
    ChainEntry("cba", "CBA", CBA),
    ChainEntry("bptr", "BPTR", BPTR),
    ChainEntry("stbp", "STBP", STBP, at_gamma=STBP, default_too=True, learns=True),  # γ = 1 is that of training
    ChainEntry("rga", "RGA", RGA),
    ChainEntry("hart", "HART", HART, at_gamma=HART, learns=True, featured=True),
    ChainEntry("adaptive-hart", "adaptive HART", AdaptiveHART, usual=False),
    ChainEntry("annealed-hart", "annealed HART", AnnealedHART, usual=False),
    ChainEntry("one-step-hart", "one-step HART", OneStepHART, usual=False),
    ChainEntry("pdsg", "PDSG", PDSG, usual=False),
    ChainEntry("assg", "ASSG", ASSG, usual=False),
    ChainEntry("rate", "Rate", Rate),
    ChainEntry("mixed", "HART + STBP", Mixed, at_gamma=lambda gamma: Mixed([HART(gamma), STBP()])),
    ChainEntry("native", "Native", Native, adapted_only=True),
):
    TABLE.add(entry)
