"""Is what a neuron and a chain say of themselves so? Compared on one sample, since nothing is believed unchecked.

A spiking layer says what it records (`trace`) and how its dynamics are differentiated (`derivative`), perhaps a
membrane factor λ (`decay`); a chain says that its `gain` is the factor of its `backward`. Neither the collapsed nor the
step-by-step route could tell if that were not so: the one would only disagree with the other, or both with the truth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.neurons import NotGiven, SpikingLayer, Trace

#: How far a gain may be from the factor of `backward`, in units of the largest: more than float32 rounds.
ROUNDING = 1e-3
#: How far a derivative may be from differences, in units of its expected size: more than curvature and float64 do.
DIFFERENCES = 1e-2
#: Random directions in which a derivative is compared with differences.
DIRECTIONS = 3
#: Distance of the two simulations of a difference, and the slope of a spike that lets nothing through a reset.
STEP, SLOPE = 1e-6, 1e-7


class NotAsClaimed(ValueError):
    """A neuron does not do what it says; the message names it."""


class NotItsGain(Exception):
    """A chain has a gain that is not that of its definition, which counts."""


@torch.no_grad()
def check_layer(layer: SpikingLayer, currents: Tensor, *, derivative: bool = False) -> None:
    """
    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :param derivative: Whether to look at the derivative of its dynamics, too.
    :raises NotAsClaimed: If the layer's trace is not its simulation, or its derivative not that of its dynamics.
    """
    if not torch.isfinite(currents).all():
        return
    currents = currents.contiguous()
    _check_trace(layer, currents, layer.trace(currents))
    if derivative:
        _check_derivative(layer, currents)


@torch.no_grad()
def check_needs(layer: SpikingLayer, currents: Tensor, chain: BackwardChain) -> None:
    """
    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :param chain: A chain that is to cross it step by step.
    :raises NotGiven: If the chain needs what the layer does not give.
    """
    trace = _watched(layer, currents)
    chain.backward(torch.ones_like(trace.spikes), trace)


@torch.no_grad()
def check_gain(layer: SpikingLayer, currents: Tensor, chain: BackwardChain) -> None:
    """A gradient that is the same at every step must leave `backward` as itself times the gain, at every step.

    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :param chain: A chain with a gain.
    :raises NotItsGain: If its gain is not the factor of its `backward`.
    :raises NotGiven: If the chain needs what the layer does not give.
    """
    trace = _watched(layer, currents)
    same = _random(trace.spikes[0], 0)
    found, defined = same * chain.gain(trace), chain.backward(same.expand_as(trace.spikes), trace)
    if not _close(defined, found.expand_as(defined), ROUNDING):
        raise NotItsGain(
            f"{type(chain).__name__}.gain is not the factor of {type(chain).__name__}.backward on "
            f"{type(layer).__name__} (off by {_off(defined, found):.2g} of the largest)"
        )


def _check_trace(layer: SpikingLayer, currents: Tensor, trace: Trace) -> None:
    name = type(layer).__name__
    for what, value in (("currents", trace.currents), ("potentials", trace.potentials), ("spikes", trace.spikes)):
        if not isinstance(value, Tensor) or value.shape != currents.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise NotAsClaimed(f"{name}.trace gives {what} of shape {shape}, expected {tuple(currents.shape)}.")
    if not torch.equal(trace.spikes, layer.simulate(currents)):
        raise NotAsClaimed(f"{name}.simulate and {name}.trace give different spikes for the same currents.")


def _check_derivative(layer: SpikingLayer, currents: Tensor) -> None:
    """Between two spikes a potential is differentiable: there its differences are the truth.

    With a slope of nearly 0 for every spike, and a gradient at the spikes of w(t) by that slope, `derivative` gives the
    gradient of Σ w(t) m(t) past all resets.
    """
    if type(layer).derivative is SpikingLayer.derivative:  # it gives none
        return
    exact = layer.trace(currents.double())
    # In units of each neuron's own: a step is small beside its currents, what a slope lets through a reset beside 1.
    scale = 1.0 + exact.currents.abs().amax(0)
    slope = (SLOPE / (1.0 + exact.potentials.abs().amax(0))).expand_as(exact.spikes)
    for number in range(DIRECTIONS):
        weights, direction = _random(exact.spikes, 2 * number), _random(exact.spikes, 2 * number + 1) * scale
        ahead, behind = (layer.trace(exact.currents + sign * STEP * direction) for sign in (1, -1))
        # Where a potential is within a step of the threshold, neurons show nothing.
        alike = (ahead.spikes == behind.spikes).all(0) & (ahead.spikes == exact.spikes).all(0)
        weights = weights * alike / scale
        differences = (weights * (ahead.potentials - behind.potentials)).sum() / (2 * STEP)
        gradient = layer.derivative(weights / slope, slope, exact) * direction
        off = (gradient.sum() - differences).abs()
        if torch.isfinite(off) and off > DIFFERENCES * gradient.norm() + 1e-6:
            raise NotAsClaimed(
                f"{type(layer).__name__}.derivative is not that of the potentials that {type(layer).__name__}.trace "
                f"gives: differences come to {float(differences):.4g}, the derivative to {float(gradient.sum()):.4g}."
            )


class _Watched(Trace):
    """A trace that compares what it is asked for."""

    @property
    def decay(self) -> float:
        decay = super().decay
        before, after = self.potentials[:-1], self.potentials[1:] - self.currents[1:]
        silent = self.spikes[:-1] == 0
        if not _close(after * silent, decay * before * silent, ROUNDING, self.potentials):
            raise NotGiven(
                f"the potential of {type(self.neuron).__name__} does not decay by its decay, {decay:g}, where "
                "it does not fire: m(t) is not decay * m(t-1) + x(t)"
            )
        return decay


def _watched(layer: SpikingLayer, currents: Tensor) -> _Watched:
    trace = layer.trace(currents.contiguous())
    return _Watched(trace.currents, trace.potentials, trace.spikes, layer)


def _close(found: Tensor, expected: Tensor, rounding: float, scale: Tensor | None = None) -> bool:
    """Whether two tensors agree, where both are finite, in units of the largest number."""
    if found.numel() == 0:
        return True
    finite = torch.isfinite(found) & torch.isfinite(expected)
    largest = torch.nan_to_num(expected if scale is None else scale, 0.0, 0.0, 0.0).abs().max()
    largest = torch.maximum(largest, torch.where(finite, found, 0.0).abs().max())
    return bool((torch.where(finite, found - expected, 0.0).abs() <= rounding * largest).all())


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _random(like: Tensor, seed: int) -> Tensor:
    """Numbers in [-1, 1) from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(like.shape, generator=generator, dtype=torch.float64) - 1).to(like.device, like.dtype)
