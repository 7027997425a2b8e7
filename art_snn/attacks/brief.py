r"""SA-PGD in a handful of steps. Ours.

SA-PGD halves its step size after shares of its steps that come to one step each where there are few, so that it soon
stands still, and it begins at a random point, on a way that is not the gradient's. Here the steps are SA-PGD's, from
the input itself, and at step k = 0 ... K - 1

.. math:: η(k) = ε \, 4^{-k / (K - 1)} .
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from art_snn.attacks.sapgd import SAPGD

#: Size of the last step, in units of the first.
LAST = 0.25


class BriefPGD(SAPGD):
    """SA-PGD for few steps, from the input itself.

    Its parameters are those of :class:`~art_snn.attacks.ball.BallAttack`; `nb_random_init` is 1, since every start
    would be the same.
    """

    def first(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        return x.clone()

    def eta(self, number: int) -> float:
        return self.eps * LAST ** (number / max(self.max_iter - 1, 1))

    def _check_params(self) -> None:
        super()._check_params()
        if self.nb_random_init != 1:
            raise ValueError(
                f"nb_random_init of BriefPGD must be 1, it starts at the input itself; got {self.nb_random_init!r}."
            )
