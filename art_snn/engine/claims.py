"""Is what a neuron and a chain say of themselves so? Compared on one sample, since nothing is believed unchecked.

A spiking layer says what it records (`trace`) and how its dynamics are differentiated (`derivative`), perhaps a
membrane factor λ (`decay`); a chain says that its `gain` is the factor of its `backward`. Neither the collapsed nor the
step-by-step route could tell if that were not so: the one would only disagree with the other, or both with the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.chains.state import Moment
from art_snn.neurons import NotGiven, SpikingLayer, Trace, Value, at, changes

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
def check_layer(layer: SpikingLayer, currents: Tensor, in_steps: bool = False) -> None:
    """
    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :param in_steps: Whether the network runs its single steps.
    :raises NotAsClaimed: If the layer's trace or its steps are not its simulation, or it is not set as it says.
    """
    if torch.isfinite(currents).all():
        trace = _check_trace(layer, currents.contiguous())
        _check_settings(layer, trace)
        if in_steps:
            _check_steps(layer, trace)


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
    if not trace.asked:
        check_factor(layer, currents)


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
    if not trace.asked:
        check_factor(layer, currents)
    return bool(trace.spikes.any())


@torch.no_grad()
def check_factor(layer: SpikingLayer, currents: Tensor) -> None:
    """A chain that does not ask for the layer's derivative takes it that a current enters its potential with factor 1.

    :param layer: A spiking layer.
    :param currents: Input currents `(T, B, ...)` of a sample or a few.
    :raises NotGiven: If it enters with another, as differences show at the first step, the last, and one between.
    """
    exact = layer.trace(currents.contiguous())
    eps, last = torch.finfo(currents.dtype).eps, len(currents) - 1
    for now in sorted({0, last // 2, last}):
        current, potential = exact.currents[now], exact.potentials[now]
        scale = 1.0 + torch.maximum(current.abs(), potential.abs())
        moved = exact.currents.clone()
        moved[now] += eps ** (1 / 3) * scale
        step = moved[now] - current
        found = layer.trace(moved).potentials[now] - potential
        off = (found - step).abs() > DIFFERENCES * step + 32 * eps * scale
        if bool((off & torch.isfinite(found) & torch.isfinite(step)).any()):
            factor = float((found / step)[off].median())
            raise NotGiven(
                f"{type(layer).__name__} adds {factor:.3g} times its current to its potential, and only a chain that "
                "asks for a neuron's derivative, such as STBP, knows: scale the current in front of the layer instead"
            )


def _check_trace(layer: SpikingLayer, currents: Tensor) -> Trace:
    name, trace = type(layer).__name__, layer.trace(currents)
    for what, value in (("currents", trace.currents), ("potentials", trace.potentials), ("spikes", trace.spikes)):
        if not isinstance(value, Tensor) or value.shape != currents.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise NotAsClaimed(f"{name}.trace gives {what} of shape {shape}, expected {tuple(currents.shape)}.")
    if not torch.equal(trace.spikes, layer.simulate(currents)):
        raise NotAsClaimed(f"{name}.simulate and {name}.trace give different spikes for the same currents.")
    if not torch.equal(trace.currents, currents):
        raise NotAsClaimed(f"{name}.trace gives other currents than it got.")
    if bool(((trace.spikes != 0) & (trace.spikes != 1)).any()):
        raise NotAsClaimed(f"{name}.trace gives spikes other than 0 and 1: what a spike is worth is its scale.")
    if hasattr(layer, "threshold"):
        below = trace.threshold - trace.potentials
        if bool(((trace.spikes != 0) & (below > ROUNDING * (below.abs() + trace.potentials.abs()))).any()):
            raise NotAsClaimed(
                f"{name}.trace gives spikes where its potentials are below the threshold: it must record the potential "
                "before the spike, m(t), not that after the reset."
            )
    return trace


def _check_settings(layer: SpikingLayer, trace: Trace) -> None:
    """What else a layer says of itself: whether it fires at its threshold, and v(0)."""
    name, first = type(layer).__name__, trace.currents[0]
    if hasattr(layer, "strict") and hasattr(layer, "threshold"):
        currents = trace.currents.clone()
        currents[0] += at(trace.threshold, 0) - trace.potentials[0]
        probe = layer.trace(currents)
        exactly = probe.potentials[0] == at(trace.threshold, 0)
        if bool((exactly & ((probe.spikes[0] != 0) == layer.strict)).any()):
            raise NotAsClaimed(
                f"{name} says strict={layer.strict}, and {'fires' if layer.strict else 'does not fire'} where its "
                "potential is the threshold."
            )
    if hasattr(layer, "v_init") and hasattr(layer, "decay"):
        v_init = at(layer.value("v_init", trace.currents, steps=False), 0)
        begun = (at(trace.decay, 0) * v_init + torch.zeros_like(first)).expand_as(first)
        if not _close(trace.potentials[0] - first, begun, ROUNDING, trace.potentials[0].abs() + first.abs()):
            raise NotAsClaimed(f"{name} does not begin at its v_init: m(1) is not decay * v_init + x(1).")


def _check_steps(layer: SpikingLayer, trace: Trace) -> None:
    state = layer.begin(trace.currents[0])
    for current, expected in zip(trace.currents, trace.spikes, strict=True):
        spikes, state = layer.step(current, state)
        if not torch.equal(spikes, expected):
            raise NotAsClaimed(f"{type(layer).__name__}.step and .simulate give different spikes.")


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
    if not hasattr(layer, "threshold") or len(exact.spikes) == 1:
        return
    threshold = at(exact.threshold, now)
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
        if getattr(layer, "detach_reset", False):
            raise NotAsClaimed(
                f"{type(layer).__name__} says detach_reset=True, and its derivative goes through the spike that resets."
            )
        _agree(layer, through[now], jump, 8 * step * (weights * scale).norm())


def _agree(layer: SpikingLayer, gradient: Tensor, differences: Tensor, rounding: Tensor) -> None:
    off, found = (gradient.sum() - differences).abs(), float(gradient.sum())
    if torch.isfinite(off) and off > DIFFERENCES * gradient.norm() + rounding:
        raise NotAsClaimed(
            f"{type(layer).__name__}.derivative is not that of the potentials that {type(layer).__name__}.trace "
            f"gives: differences come to {float(differences):.4g}, the derivative to {found:.4g}."
        )


@dataclass(frozen=True)
class _Watched(Trace):
    """A trace that compares what it is asked for."""

    #: What it was asked for that the layer's derivative is in.
    answered: list[str] = field(default_factory=list, compare=False)

    @property
    def asked(self) -> bool:
        """Whether it was asked for the layer's derivative."""
        return bool(self.answered)

    def derivative(self, grad_spikes: Tensor, slopes: Tensor, *, detach_reset: bool = False) -> Tensor:
        self.answered.append("derivative")
        found = super().derivative(grad_spikes, slopes, detach_reset=detach_reset)
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
