r"""Surrogate gradients: the derivative of a spike, ∂s(t)/∂m(t), as a function of u = m - θ.

============================  ==============================================  =================================
`Triangle(gamma)`             :math:`\max(γ - |u|, 0) / γ^2`                  Eq. 15 of Hao et al. (ICLR 2024)
`Rectangle(width)`            :math:`1/w` where :math:`|u| < w/2`             Wu et al. (2018)
`Sigmoid(slope)`              :math:`k \, σ(k u) \, σ(-k u)`                  Zenke and Ganguli (2018)
`ATan(alpha)`                 :math:`(α/2) / (1 + (π α u / 2)^2)`             Fang et al. (ICCV 2021)
`Exponential(rate)`           :math:`e^{-k |u|}`                              Shrestha and Orchard (2018)
`Gaussian(sigma)`             :math:`N(u; 0, σ)`                              Yin et al. (2021)
`StraightThrough()`           1                                               Bengio et al. (2013)
============================  ==============================================  =================================

All are even, so that they are functions of the distance :math:`|u|`, which a trace has once for all chains. But for the
exponential, whose height is 1, and the last their area is 1: they are the derivative of a smoothed step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor


class Surrogate:
    """The derivative of a spike. A subclass gives :meth:`at`; its parameters are its identity (a frozen dataclass)."""

    def at(self, distance: Tensor) -> Tensor:
        """
        :param distance: Distance of the potentials from the threshold, |m - θ|, any shape. Only read.
        :return: ∂s/∂m, of its shape.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no at(distance)")

    def mean_at(self, distance: Tensor) -> Tensor:
        """
        :param distance: |m(t) - θ|, `(T, B, ...)`. Only read.
        :return: Mean of ∂s/∂m over time, `(B, ...)`.
        """
        return self.at(distance).mean(0)

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]
            positive(each.name, getattr(self, each.name))


def positive(name: str, value: float) -> float:
    """
    :param name: A parameter.
    :param value: What it is.
    :return: It, as a float.
    :raises ValueError: Unless it is a finite number > 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}.")
    return float(value)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """Eq. 15: max(γ - |u|, 0) / γ².

    :param gamma: Half-width γ > 0, in units of the potential.
    """

    gamma: float = 1.0

    def at(self, distance: Tensor) -> Tensor:
        return triangle(distance, self.gamma)

    def mean_at(self, distance: Tensor) -> Tensor:  # in as few passes over memory as can be
        return distance.sub(self.gamma).clamp_(max=0.0).mean(0).mul_(-1.0 / self.gamma**2)


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """1/w where |u| < w/2.

    :param width: Width w > 0, in units of the potential.
    """

    width: float = 1.0

    def at(self, distance: Tensor) -> Tensor:
        return (distance < self.width / 2).to(distance.dtype).mul_(1.0 / self.width)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """k σ(ku) σ(-ku), the derivative of the logistic function σ(ku).

    :param slope: Its slope k > 0, per unit of the potential.
    """

    slope: float = 4.0

    def at(self, distance: Tensor) -> Tensor:
        upper = torch.sigmoid(distance * self.slope)
        return (1.0 - upper).mul_(upper).mul_(self.slope)


@dataclass(frozen=True)
class ATan(Surrogate):
    """(α/2) / (1 + (π α u / 2)²), the derivative of an arctangent.

    :param alpha: Steepness α > 0, per unit of the potential.
    """

    alpha: float = 2.0

    def at(self, distance: Tensor) -> Tensor:
        return arctangent(distance, self.alpha)


@dataclass(frozen=True)
class Exponential(Surrogate):
    """exp(-k |u|).

    :param rate: Rate k > 0, per unit of the potential.
    """

    rate: float = 2.0

    def at(self, distance: Tensor) -> Tensor:
        return distance.mul(-self.rate).exp_()


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """The density N(u; 0, σ).

    :param sigma: Standard deviation σ > 0, in units of the potential.
    """

    sigma: float = 0.4

    def at(self, distance: Tensor) -> Tensor:
        height = 1.0 / (self.sigma * math.sqrt(2.0 * math.pi))
        return distance.square().mul_(-0.5 / self.sigma**2).exp_().mul_(height)


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """1 everywhere."""

    def at(self, distance: Tensor) -> Tensor:
        return torch.ones_like(distance)


def triangle(distance: Tensor, gamma: float | Tensor) -> Tensor:
    """
    :param distance: |m - θ|, any shape. Only read.
    :param gamma: Half-width γ > 0, a number or a tensor that broadcasts against it.
    :return: max(γ - |u|, 0) / γ², of its shape.
    """
    return (distance - gamma).clamp_(max=0.0).mul_(-1.0 / gamma**2)


def arctangent(distance: Tensor, alpha: float | Tensor) -> Tensor:
    """
    :param distance: |m - θ|, any shape. Only read.
    :param alpha: Steepness α > 0, a number or a tensor that broadcasts against it.
    :return: (α/2) / (1 + (π α u / 2)²), of its shape.
    """
    scaled = distance * (alpha * (math.pi / 2))
    return scaled.mul_(scaled).add_(1.0).reciprocal_().mul_(alpha * 0.5)  # mul_: square_ takes half as long again


def chosen(gamma: float | None, surrogate: Surrogate | None) -> Surrogate:
    """
    :param gamma: Half-width γ of a triangle, the short form.
    :param surrogate: Or a surrogate.
    :return: The surrogate; Triangle(1.0) if neither is given.
    :raises ValueError: If both are given, or γ is not > 0.
    :raises TypeError: If `surrogate` is none.
    """
    if surrogate is None:
        return Triangle(positive("gamma", 1.0 if gamma is None else gamma))
    if gamma is not None:
        raise ValueError(f"gamma={gamma!r} is short for surrogate=Triangle({gamma!r}): give one of the two.")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"surrogate must be one of art_snn.surrogates, such as ATan(2.0), got {surrogate!r}.")
    return surrogate
