"""The routes of chains that follow no simulation: an activation network, or the network's own autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from art_snn.chains import BackwardChain
from art_snn.engine.claims import check_factor
from art_snn.engine.collapse import vjp
from art_snn.engine.compare import due
from art_snn.engine.layout import Layout, checked_output, full, loudest, over_time
from art_snn.engine.problem import Problem, Pullback, Route
from art_snn.engine.visit import given
from art_snn.neurons import NotGiven, SpikingLayer, Value, Visitor, at, changes


def activation(problem: Problem, frames: Tensor, chain: BackwardChain) -> tuple[Tensor, Pullback]:
    """
    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`, over which the activation network takes the mean.
    :param chain: A chain with an activation.
    :return: The activation network's logits `(B, K)`, and the map from a gradient there to one at the frames.
    """
    problem.seen.route = Route("activation", f"{type(chain).__name__} differentiates an activation network")
    leaf = over_time(frames).detach().clone().requires_grad_()

    compare = due(problem, frames, [chain]).layers
    loud: dict[SpikingLayer, Tensor] = {}

    def visitor(layer: SpikingLayer, currents: Tensor) -> Tensor:
        if compare:
            whole = currents.detach() if problem.layout is Layout.TIME_FIRST else currents.detach().unsqueeze(0)
            loud[layer] = full(loudest(whole))[:1].expand(len(frames), -1, *whole.shape[2:])
        return given(chain, _activated, chain, layer, currents, problem.layout is Layout.TIME_FIRST)

    with torch.enable_grad():
        logits = _through(problem, leaf, len(frames), visitor)
    for layer, currents in loud.items():
        layer.compare(currents)
        given(chain, check_factor, layer.described, layer.weighted(currents))

    def pullback(grad: Tensor) -> Tensor:
        return (vjp(logits, leaf, grad) / len(frames)).expand_as(frames)

    return logits.detach(), pullback


def _through(problem: Problem, mean: Tensor, time_steps: int, visitor: Visitor) -> Tensor:
    """Logits of the activation network `(B, K)`, out of one step; where a network has none alone, out of T alike."""
    try:
        return checked_output(problem.once(mean, visitor), len(mean))
    except (MemoryError, torch.OutOfMemoryError, NotGiven):
        raise
    except Exception:
        if not problem.steps_inside:
            raise
    return checked_output(problem.run(mean.expand(time_steps, *mean.shape), visitor), len(mean))


def native(problem: Problem, frames: Tensor) -> tuple[Tensor, Pullback]:
    """
    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`.
    :return: The network's logits `(B, K)`, and the map from a gradient there to one at the frames, by its own autograd.
    :raises ValueError: If it has none.
    """
    problem.seen.route = Route("native", "the network's own autograd")
    leaf = frames.detach().requires_grad_()
    with torch.enable_grad():
        logits = problem.native(leaf)
    if not logits.requires_grad:
        raise ValueError("chain 'native' finds no gradient: the network's own autograd does not reach its input.")
    return logits.detach(), lambda grad: vjp(logits, leaf, grad)


def _activated(chain: BackwardChain, layer: SpikingLayer, currents: Tensor, time_first: bool) -> Tensor:
    whole = currents if time_first else currents.unsqueeze(0)
    neuron, weighted = layer.described, layer.weighted(whole)
    threshold, scale = _constant(neuron, "threshold", weighted), _constant(neuron, "scale", weighted)
    return chain.activation(weighted if time_first else weighted.squeeze(0), threshold) * scale


def _constant(layer: SpikingLayer, name: str, currents: Tensor) -> Value:
    """A setting of the neurons that must not change with the time step: here there is none."""
    if not hasattr(layer, name):
        if name == "scale":
            return 1.0
        raise NotGiven(f"{type(layer).__name__} has no attribute {name!r}, a firing threshold")
    value = layer.value(name, currents[:0])
    if changes(value):
        raise NotGiven(f"the {name} of {type(layer).__name__} changes with the time step")
    return at(value, 0)
