r"""What attacks make large, of logits z and a class y: the true class, or in a targeted attack the one that is wanted.

.. math::

    \text{cross-entropy} &= -\log softmax(z)_y \\
    \text{margin} &= \max_{i ≠ y} z_i - z_y \\
    \text{DLR} &= \frac{\max_{i ≠ y} z_i - z_y}{z_{π_1} - z_{π_3}}, \qquad
    \text{targeted } \frac{z_y - \max_{i ≠ y} z_i}{z_{π_1} - (z_{π_3} + z_{π_4}) / 2}
    \qquad (π \text{ sorts z, largest first})

(the difference of logits ratio of Croce and Hein, ICML 2020; the true class of a targeted attack is not known here, and
is the largest other). A targeted attack makes the negative of the first two large. Where logits are equal, so that a
ratio has no denominator, it is their difference.
"""

from __future__ import annotations

from typing import NamedTuple

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
    return _ratio(margin(logits, labels), ordered[:, 0] - ordered[:, 2])


def targeted_difference_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """
    :param logits: z, `(B, K)`, K >= 4.
    :param labels: The wanted classes, `(B,)`.
    :return: Targeted DLR of each sample, `(B,)`.
    """
    ordered = logits.sort(1, descending=True).values
    return _ratio(-margin(logits, labels), ordered[:, 0] - ordered[:, 2:4].mean(1))


def _ratio(numerator: Tensor, span: Tensor) -> Tensor:
    return numerator / torch.where(span > TINY, span, torch.ones_like(span))


class Objective(NamedTuple):
    """What an attack makes large.

    :param untargeted: Given true classes.
    :param targeted: Given wanted ones.
    :param classes: How many classes it takes to be something, in each case.
    """

    untargeted: Loss
    targeted: Loss
    classes: tuple[int, int] = (2, 2)


LOSSES = {
    "cross_entropy": Objective(cross_entropy, lambda logits, labels: -cross_entropy(logits, labels)),
    "difference_logits_ratio": Objective(difference_logits_ratio, targeted_difference_logits_ratio, (3, 4)),
    "margin": Objective(margin, lambda logits, labels: -margin(logits, labels)),
}
