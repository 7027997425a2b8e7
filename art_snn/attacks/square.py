"""Square: a random search without gradients, whose candidates are squares at the edge of the ball (ECCV 2020).

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search". It begins with
stripes of ±ε, one pixel wide; each step gives one square of each sample ±ε, a sign for each channel, and keeps it where
the margin grows. The square covers a share p of the image, which begins at `p_init` and is halved after 0.1, 0.5, 2,
10, 20, 40, 60 and 80 % of the steps. The frames of an event recording get the same square, with a sign for each
polarity.

ART's `SquareAttack` takes one square and one sign for all samples of a step, three predictions a step, and images only;
here each sample has its own, out of one prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_snn.attacks.ball import BallAttack, Best
from art_snn.attacks.gradient import logits

#: After which shares of the steps the square's area is halved.
HALVED = (0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8)


class Square(BallAttack):
    """Random search by squares, in the L∞ ball.

    :param estimator: ART's classifier, of which only predictions are used.
    :param p_init: Share of the image that the first squares cover, in (0, 1].
    :param kwargs: As for :class:`~art_snn.attacks.ball.BallAttack`; `max_iter` is the number of queries of a
        start, `loss_type` has no meaning but "margin".
    :raises ValueError: If a parameter is out of its range, or the norm is another.
    """

    norms = (np.inf,)
    attack_params = [*BallAttack.attack_params, "p_init"]

    def __init__(self, estimator: Any, *, p_init: float = 0.8, max_iter: int = 1000, **kwargs: Any) -> None:
        self.p_init = p_init
        super().__init__(estimator, max_iter=max_iter, **{"loss_type": "margin", **kwargs})

    def _start(self, clean: Tensor, labels: Tensor, left: Tensor, seeds: Sequence[int], best: Best, bar: Any) -> None:
        here = clean[left]
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        stripes = torch.stack([_signs(_blank(one)[..., :1, :], draw) for one, draw in zip(here, draws, strict=True)])
        delta = (self.eps * stripes).expand(len(here), *_blank(here[0]).shape).reshape(here.shape)
        x = self._project(here + delta.to(here), here)
        ahead = torch.full_like(best.margin[left], -torch.inf)
        active, candidates = torch.arange(len(left), device=clean.device), x
        for number in range(self.max_iter):
            found, _ = self._progress(logits(self.estimator, candidates), labels[left[active]])
            found = found.to(ahead.dtype)
            better = found > ahead[active]
            x[active[better]], ahead[active[better]] = candidates[better], found[better]
            fools = ahead[active] > 0
            best.take(left[active], x[active], ahead[active], fools)
            if self.until_fooled:
                active = active[~fools]
            bar.update(1)
            if not len(active):
                bar.update(self.max_iter - 1 - number)
                return
            share = self._share(number)
            squares = torch.stack([self._square(here[i], share, draws[i]) for i in active.tolist()])
            candidates = torch.where(squares != 0, here[active] + self.eps * squares, x[active])
            candidates = self._project(candidates, here[active])

    def _square(self, like: Tensor, share: float, draw: torch.Generator) -> Tensor:
        """A square of ±1 among zeros."""
        found = torch.zeros_like(_blank(like))
        height, width = found.shape[-2:]
        side = max(1, round(math.sqrt(share * height * width)))
        high, wide = min(side, height), min(side, width)
        top = int(torch.randint(height - high + 1, (), generator=draw))
        at = int(torch.randint(width - wide + 1, (), generator=draw))
        found[..., top : top + high, at : at + wide] = _signs(found[..., :1, :1], draw).to(found)
        return found.reshape(like.shape)

    def _share(self, number: int) -> float:
        return self.p_init * 0.5 ** sum(number >= share * self.max_iter for share in HALVED)

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.p_init, (int, float)) or not 0.0 < self.p_init <= 1.0:
            raise ValueError(f"p_init must be a number in (0, 1], got {self.p_init!r}.")
        if self.loss_type != "margin":
            raise ValueError(f"loss_type of Square must be 'margin', got {self.loss_type!r}.")


def _blank(x: Tensor) -> Tensor:
    """Zeros `(..., H, W)` of a sample's shape, with 1 for a dimension that it lacks."""
    return torch.zeros(*[1] * (2 - x.dim()), *x.shape, dtype=x.dtype)


def _signs(like: Tensor, draw: torch.Generator) -> Tensor:
    """Signs of that shape; the same for all frames, where there are some."""
    shape = (1, *like.shape[1:]) if like.dim() > 3 else tuple(like.shape)
    return (2 * torch.randint(2, shape, generator=draw) - 1).to(like.dtype).expand(like.shape)
