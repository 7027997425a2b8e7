"""Is what a neuron and a chain say of themselves so? Compared on one sample, since nothing is believed unchecked.

A spiking layer says what it records (`trace`) and how its dynamics are differentiated (`derivative`), perhaps a
membrane factor λ (`decay`); a chain says that its `gain` is the factor of its `backward`. Neither the collapsed nor the
step-by-step route could tell if that were not so: the one would only disagree with the other, or both with the truth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.chains.state import Moment
from art_snn.neurons import NotGiven, SpikingLayer, Trace, Value, changes

#: How far a gain may be from the factor of `backward`, in units of the largest: more than float32 rounds.
ROUNDING = 1e-3
#: How far a derivative may be from differences, in units of its expected size: more than curvature does.
DIFFERENCES = 1e-2
#: Random directions in which a derivative is compared with differences.
DIRECTIONS = 3


class NotAsClaimed(ValueError):
    """A neuron does not do what it says; the message names it."""


class NotItsGain(Exception):
    """A chain has a gain that is not that of its definition, which counts.

    :param chain: The chain.
    :param layer: The layer on which that was seen.
    :param off: By how much, in units of the largest.
    """

    def __init__(self, chain: BackwardChain, layer: SpikingLayer, off: float) -> None:
        name = type(chain).__name__
        super().__init__(
            f"{name}.gain is not the factor of {name}.backward on {type(layer).__name__} (off by {off:.2g} of the "
            "largest)"
        )
        self.chain = chain


@torch.no_grad()
def check_layer(layer: SpikingLayer, currents: Tensor) -> None:
    """
    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :raises NotAsClaimed: If the layer's trace is not its simulation.
    """
    if torch.isfinite(currents).all():
        _check_trace(layer, currents.contiguous())


@torch.no_grad()
def check_needs(layer: SpikingLayer, currents: Tensor, chain: BackwardChain) -> None:
    """
    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :param chain: A chain that is to cross it step by step.
    :raises NotGiven: If the chain needs what the layer does not give.
    :raises NotAsClaimed: If it needs the derivative of the layer's dynamics, and that is another.
    """
    trace = _watched(layer, currents, chain)
    chain.backward(torch.ones_like(trace.spikes), trace)


@torch.no_grad()
def check_gain(layer: SpikingLayer, currents: Tensor, chain: BackwardChain) -> bool:
    """A gradient that is the same at every step must leave `backward` as itself times the gain, at every step.

    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :param chain: A chain with a gain.
    :return: Whether that shows something: the layer fired.
    :raises NotItsGain: If its gain is not the factor of its `backward`.
    :raises NotGiven: If the chain needs what the layer does not give.
    """
    trace = _watched(layer, currents, chain)
    same = _random(trace.spikes[0], 0)
    found, defined = same * chain.gain(trace), chain.backward(same.expand_as(trace.spikes), trace)
    if not _close(defined, found.expand_as(defined), ROUNDING):
        raise NotItsGain(chain, layer, _off(defined, found))
    return bool(trace.spikes.any())


def _check_trace(layer: SpikingLayer, currents: Tensor) -> None:
    name, trace = type(layer).__name__, layer.trace(currents)
    for what, value in (("currents", trace.currents), ("potentials", trace.potentials), ("spikes", trace.spikes)):
        if not isinstance(value, Tensor) or value.shape != currents.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise NotAsClaimed(f"{name}.trace gives {what} of shape {shape}, expected {tuple(currents.shape)}.")
    if not torch.equal(trace.spikes, layer.simulate(currents)):
        raise NotAsClaimed(f"{name}.simulate and {name}.trace give different spikes for the same currents.")
    if not torch.equal(trace.currents, currents):
        raise NotAsClaimed(f"{name}.trace gives other currents than it got.")
    threshold = getattr(layer, "threshold", None)
    if threshold is not None:
        below = threshold - trace.potentials
        if bool(((trace.spikes != 0) & (below > ROUNDING * (below.abs() + trace.potentials.abs()))).any()):
            raise NotAsClaimed(
                f"{name}.trace gives spikes where its potentials are below the threshold {threshold}: it must record "
                "the potential before the spike, m(t), not that after the reset."
            )


def _check_derivative(layer: SpikingLayer, currents: Tensor) -> None:
    """Between two spikes a potential is differentiable: there its differences are the truth.

    With a slope of nearly 0 for every spike, and a gradient at the spikes of w(t) by that slope, `derivative` gives the
    gradient of Σ w(t) m(t) past all resets. All is in units of each neuron's own current and potential.
    """
    exact = layer.trace(currents)
    potentials = exact.potentials
    scale, eps = 1.0 + torch.maximum(currents.abs(), potentials.abs()), torch.finfo(potentials.dtype).eps
    step, slope = eps ** (1 / 3), torch.finfo(potentials.dtype).tiny ** 0.5 / scale
    for number in range(DIRECTIONS):
        weights, direction = _random(potentials, 2 * number) / scale, _random(potentials, 2 * number + 1) * scale
        ahead, behind = (layer.trace(currents + sign * step * direction) for sign in (1, -1))
        # Neurons with a potential within a step of the threshold, or of a kink, show nothing.
        alike = (ahead.spikes == behind.spikes) & (ahead.spikes == exact.spikes)
        forth, back = ahead.potentials - potentials, potentials - behind.potentials
        alike &= (forth - back).abs() <= 0.1 * forth.abs() + 32 * eps * scale
        weights = weights * alike.all(0)
        differences = (weights * (forth + back)).sum() / (2 * step)
        gradient = layer.derivative(weights / slope, slope, exact) * direction
        _agree(layer, gradient, differences, 8 * eps / step * (weights * scale).norm())
    _check_reset(layer, exact, scale, step, slope)


def _check_reset(layer: SpikingLayer, exact: Trace, scale: Tensor, step: float, slope: Tensor) -> None:
    """What a spike does to the next potential: the jump there, when its own potential passes the threshold.

    A derivative that holds the reset constant, and so passes nothing on through the spike, is as good.
    """
    now = (len(exact.spikes) - 1) // 2
    threshold = getattr(layer, "threshold", None)
    if threshold is None or len(exact.spikes) == 1:
        return
    at_threshold = threshold - exact.potentials[now]

    def moved(by: Tensor) -> Trace:
        currents = exact.currents.clone()
        currents[now] += at_threshold + by
        return layer.trace(currents)

    above, below = (moved(sign * step**2 * scale[now]) for sign in (1, -1))
    crossed = (above.spikes[now] != 0) & (below.spikes[now] == 0)
    # Where the next potential is no straight line in this one, a jump is no derivative.
    half, whole = (moved(-(step**2) * scale[now] - part * threshold).potentials[now + 1] for part in (0.5, 1.0))
    ends = below.potentials[now + 1]
    crossed &= (ends - 2 * half + whole).abs() <= ROUNDING * (ends - whole).abs() + 32 * step**2 * scale[now]
    weights = torch.zeros_like(exact.potentials)
    weights[now + 1] = _random(exact.potentials[0], 0) / scale[now + 1] * crossed
    jump = (weights * (above.potentials - below.potentials)).sum()
    full_slope = slope.clone()
    full_slope[now] = 1.0
    through = layer.derivative(weights / slope, full_slope, below) - layer.derivative(weights / slope, slope, below)
    if bool(through[now].any()):
        _agree(layer, through[now], jump, 8 * step * (weights * scale).norm())


def _agree(layer: SpikingLayer, gradient: Tensor, differences: Tensor, rounding: Tensor) -> None:
    off, found = (gradient.sum() - differences).abs(), float(gradient.sum())
    if torch.isfinite(off) and off > DIFFERENCES * gradient.norm() + rounding:
        raise NotAsClaimed(
            f"{type(layer).__name__}.derivative is not that of the potentials that {type(layer).__name__}.trace "
            f"gives: differences come to {float(differences):.4g}, the derivative to {found:.4g}."
        )


class _Watched(Trace):
    """A trace that compares what it is asked for."""

    def derivative(self, grad_spikes: Tensor, slopes: Tensor) -> Tensor:
        found = super().derivative(grad_spikes, slopes)
        if torch.isfinite(self.currents).all():
            _check_derivative(self.neuron, self.currents)
        return found

    @property
    def decay(self) -> Value:
        decay = super().decay
        before, after = self.potentials[:-1], self.potentials[1:] - self.currents[1:]
        silent = self.spikes[:-1] == 0
        then = decay[1:] if changes(decay) else decay
        if not _close(after * silent, then * before * silent, ROUNDING, self.potentials):
            raise NotGiven(
                f"the potential of {type(self.neuron).__name__} does not decay by its decay where it does not fire: "
                "m(t) is not decay * m(t-1) + x(t)"
            )
        return decay


def _watched(layer: SpikingLayer, currents: Tensor, chain: BackwardChain) -> _Watched:
    trace = layer.trace(currents.contiguous())
    whole = slice(0, trace.spikes.shape[1])
    state = Moment().state(chain, (layer, 0), trace, whole) if chain.has_state else ()
    return _Watched(trace.currents, trace.potentials, trace.spikes, layer, state)


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
