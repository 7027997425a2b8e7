r"""What attacks make large, of logits z and the class y: the true class, or in a targeted attack the one that is wanted.

.. math::

    \text{cross-entropy} &= -\log softmax(z)_y \\
    \text{margin} &= \max_{i ≠ y} z_i - z_y \\
    \text{DLR} &= -\frac{z_y - \max_{i ≠ y} z_i}{z_{π_1} - z_{π_3}} \qquad (π \text{ sorts z, largest first})

(the difference of logits ratio of Croce and Hein, ICML 2020). A targeted attack makes the negative of the first two large,
and of the third, with the true class of the sample unknown, the same ratio from the wanted class to the largest. Where
logits are equal, so that a ratio has no denominator, it is their difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_snn.attacks.gradient import Loss

#: Denominators below this are none.
TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """
    :param logits: z, `(B, K)`.
    :param labels: y, `(B,)`.
    :return: Cross-entropy of each sample, `(B,)`.
    """
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """
    :param logits: z, `(B, K)`.
    :param labels: y, `(B,)`.
    :return: By how much the largest other logit is above that of y, `(B,)`: above 0, the prediction is another class.
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return others - own


def difference_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """
    :param logits: z, `(B, K)`, K >= 3.
    :param labels: y, `(B,)`.
    :return: DLR of each sample, `(B,)`.
    """
    ordered = logits.sort(1, descending=True).values
    span = ordered[:, 0] - ordered[:, 2]
    return margin(logits, labels) / torch.where(span > TINY, span, torch.ones_like(span))


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "difference_logits_ratio": difference_logits_ratio,
    "margin": margin,
}
