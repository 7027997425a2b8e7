"""Backward chains: one file each, every file opens with its equation.

==========  =======================================================================
`stbp`      back-propagation through time, Eq. 15 or another surrogate for ∂s/∂m
`hart`      the hybrid attack, Eqs. 13-15
`adaptive`  HART with surrogates whose width is not searched
`rate`      the rate gradient, Eqs. 9-11
`rga`       rate gradient approximation
`bptr`      back-propagation through rate
`cba`       conversion-based approximation
`pdsg`      potential-dependent surrogates
`assg`      surrogates that adapt over the gradients of an attack
`native`    an adapted network's own autograd
`mixed`     a weighted sum of the above, Eq. A6; HART and STBP in equal parts
==========  =======================================================================
"""

from __future__ import annotations

from art_snn.chains.adaptive import AdaptiveHART, AnnealedHART, OneStepHART
from art_snn.chains.assg import ASSG
from art_snn.chains.base import BackwardChain
from art_snn.chains.bptr import BPTR
from art_snn.chains.cba import CBA
from art_snn.chains.hart import HART
from art_snn.chains.mixed import Mixed
from art_snn.chains.native import Native
from art_snn.chains.pdsg import PDSG
from art_snn.chains.rate import Rate
from art_snn.chains.rga import RGA
from art_snn.chains.stbp import STBP
from art_snn.chains.table import CHAINS, get_chain

__all__ = [
    "ASSG",
    "BPTR",
    "CBA",
    "CHAINS",
    "HART",
    "PDSG",
    "RGA",
    "STBP",
    "AdaptiveHART",
    "AnnealedHART",
    "BackwardChain",
    "Mixed",
    "Native",
    "OneStepHART",
    "Rate",
    "get_chain",
]
