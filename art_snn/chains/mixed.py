r"""Mixed: a weighted sum of the input gradients of other chains, Eq. A6 of Hao et al. (ICLR 2024).

.. math:: ∇_x L = \sum_i w_i (∇_x L)_i, \qquad \text{in the paper } β \, HART + (1 - β) \, STBP, \; β = 0.5
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from art_snn.chains.base import BackwardChain
from art_snn.chains.hart import HART
from art_snn.chains.names import get_chain
from art_snn.chains.stbp import STBP


@dataclass(frozen=True, init=False)
class Mixed(BackwardChain):
    """A mixture of chains; the gradients are added, the forward pass is shared.

    :param chains: The chains to mix (or their names); HART and STBP by default.
    :param weights: A finite weight for each; equal parts by default.
    :raises ValueError: If there is no chain, or the weights do not match the chains.
    """

    chains: tuple[BackwardChain, ...]
    weights: tuple[float, ...]

    def __init__(
        self,
        chains: Sequence[BackwardChain | str] = (HART(), STBP()),
        weights: Sequence[float] | None = None,
    ) -> None:
        if isinstance(chains, (str, BackwardChain)) or len(chains) == 0:
            raise ValueError(f"chains must be a sequence of at least one chain, got {chains!r}.")
        if weights is None:
            weights = [1.0 / len(chains)] * len(chains)
        if len(weights) != len(chains):
            raise ValueError(f"weights must hold one number per chain ({len(chains)}), got {len(weights)}.")
        for weight in weights:
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
                raise ValueError(f"weights must be finite numbers, got {weight!r}.")
        object.__setattr__(self, "chains", tuple(get_chain(chain) for chain in chains))
        object.__setattr__(self, "weights", tuple(float(weight) for weight in weights))

    def parts(self) -> Iterator[tuple[float, BackwardChain]]:
        for weight, chain in zip(self.weights, self.chains, strict=True):
            for inner, part in chain.parts():
                yield weight * inner, part
