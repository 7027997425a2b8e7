"""The activation route, for chains that follow no simulation: the body runs once as an activation network."""

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
from art_snn.neurons import NotGiven, SpikingLayer, Value, at, changes


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

    def visitor(layer: SpikingLayer, currents: Tensor) -> Tensor:
        if compare:
            whole = currents.detach() if problem.layout is Layout.TIME_FIRST else currents.detach().unsqueeze(0)
            given(chain, check_factor, layer, full(loudest(whole)).expand(len(frames), -1, *whole.shape[2:]))
        return given(chain, _activated, chain, layer, currents, problem.layout is Layout.TIME_FIRST)

    with torch.enable_grad():
        logits = checked_output(problem.once(leaf, visitor), len(leaf))

    def pullback(grad: Tensor) -> Tensor:
        return (vjp(logits, leaf, grad) / len(frames)).expand_as(frames)

    return logits.detach(), pullback


def _activated(chain: BackwardChain, layer: SpikingLayer, currents: Tensor, time_first: bool) -> Tensor:
    whole = currents if time_first else currents.unsqueeze(0)
    threshold, scale = _constant(layer, "threshold", whole), _constant(layer, "scale", whole)
    return chain.activation(currents, threshold) * scale


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
