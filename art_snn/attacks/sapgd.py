r"""SA-PGD: stable adaptive projected gradient descent (arXiv 2512.22522).

From a point of the ball, uniform, with the gradient g of each sample in units of its own mean, and η(k) the step size:

.. math::

    m &← 0.5 \, m + g / \overline{|g|}, \qquad v ← 0.8 \, v + g^2 / \overline{g^2}, \\
    x &← Π \left( x + clip\left( η \frac{m}{\sqrt{v} + 10^{-12}}, -η, η \right) \right)

η begins at ε and is halved after some steps: 22 % of all the first time, and then each time 3 % less, down to 6 %. In
the Euclidean norm, for which there are no published steps, ours is η along m, m ← 0.5 m + g by its norm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_snn.attacks.ball import each, unit
from art_snn.attacks.stepped import Memory, SteppedAttack

#: After which shares of the steps the step size is halved: the first, by how much each is shorter, the shortest.
FIRST, SHORTER, SHORTEST = 0.22, 0.03, 0.06


class SAPGD(SteppedAttack):
    """SA-PGD, whose parameters are those of :class:`~art_snn.attacks.ball.BallAttack`."""

    def begin(self, x: Tensor) -> Memory:
        return (torch.zeros_like(x), torch.zeros_like(x))

    def eta(self, number: int) -> float:
        """
        :param number: Number of a step, from 0.
        :return: Its size η.
        """
        return self.eps * 0.5 ** halvings(number, self.max_iter)

    def step(self, grad: Tensor, memory: Memory, number: int) -> tuple[Tensor, Memory]:
        m, v = memory
        eta = self.eta(number)
        if self.norm == 2:
            m = 0.5 * m + unit(grad)
            return eta * unit(m), (m, v)
        grad = grad / _mean(grad.abs())  # first, or squares of small numbers are 0
        m, v = 0.5 * m + grad, 0.8 * v + grad.square() / _mean(grad.square())
        return (eta * m / (v.sqrt() + 1e-12)).clamp(-eta, eta), (m, v)


def halvings(number: int, steps: int) -> int:
    """
    :param number: Number of a step, from 0.
    :param steps: Number of all.
    :return: How often the step size was halved before it.
    """
    times, share, end = 0, FIRST, 0
    while number >= (end := end + max(1, round(share * steps))):
        share = max(share - SHORTER, SHORTEST)
        times += 1
    return times


def _mean(values: Tensor) -> Tensor:
    """Mean over each sample, which broadcasts; 1 where it is 0 or too small to divide by."""
    mean = each(values.flatten(1).mean(1), values)
    return torch.where(mean > torch.finfo(mean.dtype).tiny, mean, torch.ones_like(mean))
