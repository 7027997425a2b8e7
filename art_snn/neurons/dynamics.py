r"""Spiking neurons (Eqs. 1-4 of Hao et al., ICLR 2024) and their derivative, as functions.

For a layer with input current x(t) = W s(t), threshold θ and membrane factor λ, from v(0) on (0 in the paper):

.. math::

    m(t) &= λ v(t-1) + x(t)                                     && (1) \\
    s(t) &= 1 \text{ if } m(t) ≥ θ \text{ else } 0              && (4) \\
    v(t) &= m(t) - η(t) s(t),\quad
    η(t) = m(t) - v_{rest} \text{ (hard reset)}, \; θ \text{ (soft reset)}   && (2, 3)

Where neurons elsewhere differ, it is in this: a spike at m(t) > θ (*strict*); a soft reset by another amount than θ, or
no reset at all; λ, θ and the rest another for each channel, neuron or time step. All are numbers or tensors that
broadcast against `(T, B, ...)`, see :mod:`art_snn.neurons.values`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_snn.neurons.values import Value, at

RESETS = ("hard", "soft", "none")


def begin(current: Tensor, v_init: Value) -> Tensor:
    """
    :param current: An input current `(B, ...)`.
    :param v_init: v(0).
    :return: It for each neuron, `(B, ...)`, in memory of its own.
    """
    v = torch.zeros_like(current, memory_format=torch.contiguous_format)
    if isinstance(v_init, Tensor):
        return v.copy_(v_init[0])
    return v.fill_(v_init) if v_init else v


def charge(current: Tensor, v: Tensor, decay: Value, out: Tensor | None = None) -> Tensor:
    """Eq. 1 at one step: m(t), `(B, ...)`."""
    if isinstance(decay, Tensor):
        return torch.addcmul(current, v, decay, out=out)
    return torch.add(current, v, alpha=decay, out=out)


def fire(m: Tensor, threshold: Value, strict: bool, out: Tensor) -> Tensor:
    """Eq. 4 at one step: s(t), `(B, ...)`."""
    return torch.gt(m, threshold, out=out) if strict else torch.ge(m, threshold, out=out)


def settle(m: Tensor, s: Tensor, reset: str, v_rest: Value, amount: Value, out: Tensor | None = None) -> Tensor:
    """Eqs. 2, 3 at one step: v(t), `(B, ...)`; a soft reset is by `amount`."""
    if reset == "none":
        return m if out is None or out is m else out.copy_(m)
    if reset == "soft":
        if isinstance(amount, Tensor):
            return torch.addcmul(m, s, amount, value=-1, out=out)
        return torch.sub(m, s, alpha=amount, out=out)
    v = torch.addcmul(m, m, s, value=-1, out=out)
    if isinstance(v_rest, Tensor):
        return v.addcmul_(s, v_rest)
    return v.add_(s, alpha=v_rest) if v_rest else v


@torch.no_grad()
def simulate(
    currents: Tensor,
    *,
    decay: Value,
    threshold: Value,
    reset: str,
    v_rest: Value,
    strict: bool = False,
    reset_by: Value | None = None,
    v_init: Value = 0.0,
    spikes: Tensor | None = None,
    potentials: Tensor | None = None,
) -> Tensor:
    """Run Eqs. 1-4 over all time steps, without an autograd graph.

    :param currents: Input currents x(t), shape `(T, B, ...)`. Only read.
    :param decay: Membrane factor λ.
    :param threshold: Firing threshold θ.
    :param reset: `"hard"`, `"soft"` or `"none"`.
    :param v_rest: Resting potential of the hard reset.
    :param strict: Whether a neuron fires above θ only, not at it.
    :param reset_by: What the soft reset takes off; θ when not given.
    :param v_init: v(0).
    :param spikes: Where to write s(t), shape `(T, B, ...)`; allocated when not given.
    :param potentials: Where to write m(t), shape `(T, B, ...)`; not kept when not given.
    :return: Spikes s(t), 0 or 1, shape `(T, B, ...)`.
    """
    if spikes is None:
        spikes = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
    amount = threshold if reset_by is None else reset_by
    v = begin(currents[0], v_init)
    last = len(currents) - 1
    for t, current in enumerate(currents):
        m = v if potentials is None else potentials[t]
        charge(current, v, at(decay, t), m)
        s = fire(m, at(threshold, t), strict, spikes[t])
        if t == last:
            break
        settle(m, s, reset, at(v_rest, t), at(amount, t), v)
    return spikes


@torch.no_grad()
def follow(
    currents: Tensor,
    spikes: Tensor,
    *,
    decay: Value,
    threshold: Value,
    reset: str,
    v_rest: Value,
    reset_by: Value | None = None,
    v_init: Value = 0.0,
) -> Tensor:
    """Eqs. 1-3 along spikes that are given, whoever fired them.

    :param currents: Input currents x(t), shape `(T, B, ...)`. Only read.
    :param spikes: s(t), 0 or 1, shape `(T, B, ...)`. Only read. The others are as for :func:`simulate`.
    :return: m(t), shape `(T, B, ...)`.
    """
    amount = threshold if reset_by is None else reset_by
    potentials = torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
    v = begin(currents[0], v_init)
    for t, current in enumerate(currents):
        m = charge(current, v, at(decay, t), potentials[t])
        settle(m, spikes[t], reset, at(v_rest, t), at(amount, t), v)
    return potentials


@torch.no_grad()
def derivative(
    grad_spikes: Tensor,
    slopes: Tensor,
    potentials: Tensor,
    spikes: Tensor,
    *,
    decay: Value,
    threshold: Value,
    reset: str,
    v_rest: Value,
    reset_by: Value | None = None,
    detach_reset: bool = False,
) -> Tensor:
    r"""The derivative of Eqs. 1-4, backwards in time, given σ(t) = ∂s(t)/∂m(t).

    With G(t) the gradient at m(t) and g(t) that at s(t), for t = T, ..., 1:

    .. math::

        G(t) = g(t) σ(t) + λ(t+1) G(t+1) \frac{∂v(t)}{∂m(t)}, \qquad
        \frac{∂v(t)}{∂m(t)} = \begin{cases}
            1 - s(t) - (m(t) - v_{rest}) σ(t) & \text{hard reset} \\ 1 - η σ(t) & \text{soft reset} \\
            1 & \text{no reset}
        \end{cases}

    without the terms in σ(t) where the reset is held constant. x(t) enters m(t) with factor 1, so G(t) is the gradient
    at the currents.

    :param grad_spikes: Gradient at the spikes g(t), shape `(T, B, ...)`. Only read.
    :param slopes: σ(t), shape `(T, B, ...)`. Only read.
    :param potentials: m(t), shape `(T, B, ...)`.
    :param spikes: s(t), shape `(T, B, ...)`.
    :param decay: Membrane factor λ.
    :param threshold: Firing threshold θ.
    :param reset: `"hard"`, `"soft"` or `"none"`.
    :param v_rest: Resting potential of the hard reset.
    :param reset_by: What the soft reset takes off, η; θ when not given.
    :param detach_reset: Whether the spike that resets is held constant.
    :return: Gradient at the currents `(T, B, ...)`.
    """
    # With a = λ G(t+1): hard reset G = σ (g - a (m - v_rest)) + a (1 - s), soft reset G = σ (g - η a) + a.
    grad_currents = torch.empty_like(potentials)
    last = len(grad_spikes) - 1
    through = reset != "none" and not detach_reset
    torch.mul(grad_spikes[last], slopes[last], out=grad_currents[last])
    for t in range(last - 1, -1, -1):
        G, a = grad_currents[t], grad_currents[t + 1] * at(decay, t + 1)
        g, m, s = grad_spikes[t], potentials[t], spikes[t]
        if through:
            g = _at_spikes(g, a, m, reset, at(v_rest, t), at(threshold if reset_by is None else reset_by, t), G)
        torch.mul(g, slopes[t], out=G).add_(a)
        if reset == "hard":
            G.addcmul_(a, s, value=-1)
    return grad_currents


def _at_spikes(
    g: Tensor, a: Tensor, m: Tensor, reset: str, v_rest: Value, amount: Value, out: Tensor | None = None
) -> Tensor:
    """The gradient at the spikes, g, with what comes through the reset from that at v(t), a."""
    if reset == "hard":
        height = m - v_rest if isinstance(v_rest, Tensor) or v_rest else m
        return torch.addcmul(g, a, height, value=-1, out=out)
    if isinstance(amount, Tensor):
        return torch.addcmul(g, a, amount, value=-1, out=out)
    return torch.sub(g, a, alpha=amount, out=out)


@torch.no_grad()
def sensitivities(
    grad_potentials: Tensor,
    grad_spikes: Tensor,
    slopes: Tensor,
    potentials: Tensor,
    spikes: Tensor,
    *,
    decay: Value,
    threshold: Value,
    reset: str,
    v_rest: Value,
    reset_by: Value | None = None,
    detach_reset: bool = False,
    v_init: Value = 0.0,
) -> dict[str, Tensor]:
    r"""The derivative of Eqs. 1-4 by what the neurons are set by.

    With G(t) as :func:`derivative` gives it, H(t) = λ(t+1) G(t+1) the gradient at v(t), H(T) = 0, and h(t) that at
    s(t): g(t) and what comes through the reset. s(t) is a function of m(t) - θ, so that ∂s(t)/∂θ = -σ(t):

    .. math::

        \frac{∂L}{∂λ(t)} &= G(t) v(t-1), &
        \frac{∂L}{∂v(0)} &= λ(1) G(1), &
        \frac{∂L}{∂θ(t)} &= -σ(t) h(t), \\
        \frac{∂L}{∂v_{rest}} &= H(t) s(t) \text{ (hard reset)}, &
        \frac{∂L}{∂η} &= -H(t) s(t) \text{ (soft reset)}

    the last one a part of θ's where the soft reset is by θ.

    :param grad_potentials: G(t), shape `(T, B, ...)`.
    :return: For each setting that is a tensor, by name, a gradient of its shape, summed over the batch. The others are
        as for :func:`derivative` and :func:`simulate`.
    """
    given = {"decay": decay, "threshold": threshold, "v_rest": v_rest, "reset_by": reset_by, "v_init": v_init}
    amount = threshold if reset_by is None else reset_by
    G, g, H = grad_potentials, grad_spikes, torch.zeros_like(grad_potentials)
    H[:-1] = G[1:] * (decay[1:] if isinstance(decay, Tensor) and len(decay) > 1 else decay)
    before = torch.empty_like(potentials)
    before[0] = begin(potentials[0], v_init)
    for t in range(1, len(potentials)):
        before[t] = settle(potentials[t - 1], spikes[t - 1], reset, at(v_rest, t - 1), at(amount, t - 1))
    if reset != "none" and not detach_reset:
        g = _at_spikes(g, H, potentials, reset, v_rest, amount)
    first = torch.zeros_like(G)
    first[0] = G[0] * at(decay, 0)
    taken = H * spikes
    by = {
        "decay": G * before,
        "threshold": -slopes * g - (taken if reset == "soft" and reset_by is None else 0.0),
        "v_rest": taken if reset == "hard" else torch.zeros_like(G),
        "reset_by": -taken if reset == "soft" else torch.zeros_like(G),
        "v_init": first,
    }
    return {name: by[name].sum_to_size(value.shape) for name, value in given.items() if isinstance(value, Tensor)}
