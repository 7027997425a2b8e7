r"""The surrogate gradient of a spike, Eq. 15 of Hao et al. (ICLR 2024): a triangle of half-width γ and area 1.

.. math:: \frac{∂s(t)}{∂m(t)} = \frac{1}{γ^2} \max(γ - |m(t) - θ|, 0)
"""

from __future__ import annotations

from torch import Tensor

from art_snn.neurons import Value


def triangle(potentials: Tensor, threshold: Value, gamma: float) -> Tensor:
    """
    :param potentials: Membrane potentials before the spike m(t), any shape.
    :param threshold: Firing threshold θ, a number or a tensor that broadcasts against them.
    :param gamma: Half-width γ > 0.
    :return: ∂s/∂m, same shape.
    """
    distance = (potentials - threshold).abs_()
    return distance.sub_(gamma).clamp_(max=0.0).mul_(-1.0 / gamma**2)


def mean_triangle(distance: Tensor, gamma: float) -> Tensor:
    """
    :param distance: |m(t) - θ|, `(T, B, ...)`. Only read.
    :param gamma: Half-width γ > 0.
    :return: Mean of ∂s/∂m over time, `(B, ...)`, in as few passes over memory as can be.
    """
    return distance.sub(gamma).clamp_(max=0.0).mean(0).mul_(-1.0 / gamma**2)
