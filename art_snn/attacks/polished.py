r"""SA-PGD, and after each start a random search from the best point that was found. Ours.

What a spiking network predicts is constant between the inputs at which some spike comes or goes, and a surrogate's
gradient only supposes where those are. A start often ends one or two spikes before the sample is fooled, where the
gradient leads no further, and a few values at the edge of the ball, drawn at random, are what is missing. Of D values
of an input, at the q-th of Q queries

.. math:: k(q) = \max\left(1, \frac{\sqrt{D}}{2} \left( 1 - \frac{q}{Q} \right) \right)

are set to x ± ε (in the Euclidean norm: moved by ± 2 ε / √D, and projected), and kept where the margin is no smaller
then. A query costs one prediction, where a step costs a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from art_snn.attacks.ball import Best
from art_snn.attacks.checks import check_whole
from art_snn.attacks.gradient import draws, logits
from art_snn.attacks.sapgd import SAPGD
from art_snn.randomness import mixed_seed


class PolishedPGD(SAPGD):
    """SA-PGD, and after the steps of each start a random search from the best point.

    :param estimator: ART's PyTorch classifier; the gradient of a spiking one follows its chain.
    :param queries: Queries of the search, after each start, >= 1; each is one prediction.
    :param kwargs: As for :class:`~art_snn.attacks.ball.BallAttack`.
    :raises ValueError: If a parameter is out of its range.
    """

    attack_params = [*SAPGD.attack_params, "queries"]

    def __init__(self, estimator: Any, *, queries: int = 50, **kwargs: Any) -> None:
        self.queries = queries
        super().__init__(estimator, **kwargs)

    @property
    def length(self) -> int:
        """Steps and queries of one start, as the progress counts them."""
        return self.max_iter + self.queries

    def _start(self, clean: Tensor, labels: Tensor, left: Tensor, seeds: Sequence[int], best: Best, bar: Any) -> None:
        super()._start(clean, labels, left, seeds, best, bar)
        here, classes = clean[left], labels[left]
        places, signs = self._drawn(here, seeds)
        x, ahead = best.x[left], best.margin[left]
        active = torch.arange(len(left), device=clean.device)
        for number in range(self.queries):
            if self.until_fooled:
                active = active[~best.fooled[left[active]]]
            if not len(active):
                bar.update(self.queries - number)
                return
            some = max(1, round(places.shape[2] * (1 - number / self.queries)))
            which = places[active, number, :some], signs[active, number, :some]
            candidates = self._moved(x[active], here[active], *which)
            before = draws(self.estimator)
            found = logits(self.estimator, candidates)
            margins, fools = self._judged(candidates, classes[active], found, before)
            margins = margins.to(ahead.dtype)
            kept = margins >= ahead[active]
            x[active[kept]], ahead[active[kept]] = candidates[kept], margins[kept]
            best.take(left[active], candidates, margins, fools)
            bar.update(1)

    def _moved(self, x: Tensor, clean: Tensor, places: Tensor, signs: Tensor) -> Tensor:
        """Points with some of their values set, or moved; where a place comes twice, as its last sign says."""
        number = places.shape[1]
        last = number - 1 - (places[:, :, None] == places[:, None, :]).flip(2).int().argmax(2)
        signs = signs.gather(1, last)  # or it would depend on the device which of them is written last
        flat, from_here = x.flatten(1), x if self.norm == 2 else clean
        far = 2 * self.eps / math.sqrt(flat.shape[1]) if self.norm == 2 else self.eps
        values = from_here.flatten(1).gather(1, places) + far * signs
        return self._project(flat.scatter(1, places, values).view_as(x), clean)

    def _drawn(self, x: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """For each sample and query which values are set, and the signs."""
        size = x[0].numel()
        shape = (self.queries, max(1, round(math.sqrt(size) / 2)))
        draws = [torch.Generator().manual_seed(mixed_seed(seed, 1)) for seed in seeds]
        places = torch.stack([torch.randint(size, shape, generator=draw) for draw in draws])
        signs = torch.stack([torch.randint(2, shape, generator=draw) for draw in draws])
        return places.to(x.device), (2 * signs - 1).to(x)

    def _check_params(self) -> None:
        super()._check_params()
        check_whole("queries", self.queries, 1)
