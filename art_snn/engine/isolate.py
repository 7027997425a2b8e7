"""Weights, buffers, modes and the global random state stay as they were, whatever a gradient does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from art_snn.engine.problem import Modes, Problem
from art_snn.randomness import States

#: Buffers that are as much a part of a layer's function as its weights.
STATISTICS = {"running_mean", "running_var"}


def modes(problem: Problem) -> Modes:
    """
    :param problem: The network, as the engine sees it.
    :return: What tells apart the states in which its layers may behave differently.
    """
    return tuple((id(module), module.training) for module in problem.body.modules())


def version(value: Tensor) -> int:
    """
    :param value: A weight or a buffer.
    :return: How often it was changed in place, as far as torch counts that: not in inference mode.
    """
    return 0 if is_lazy(value) or value.is_inference() else value._version


def state(problem: Problem) -> Any:
    """What must be the same when a graph is built again: the layers' modes and the versions of their weights."""
    return modes(problem), tuple(version(parameter) for parameter in problem.body.parameters())


def autocast(device: str) -> torch.autocast:
    """The precision in force, for later."""
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))


@contextmanager
def own_randomness(problem: Problem, states: States | None = None) -> Iterator[None]:
    """Inside the block torch's global generators are the network's own, on all devices of its weights.

    :param problem: The network, as the engine sees it.
    :param states: As for :meth:`~art_snn.randomness.Randomness.in_force`.
    """
    devices = sorted({p.device for p in problem.body.parameters()}, key=str)
    with problem.randomness.in_force(devices, states):
        yield


def check_weights(problem: Problem, *, anew: bool = False) -> None:
    """
    :param problem: The network, as the engine sees it.
    :param anew: Whether to look at weights that torch does not know to have changed.
    :raises ValueError: If a weight that can learn is NaN or infinite, or another weight or a running statistic NaN; the
        message names its layer. Spikes would hide it: comparisons with NaN are false, so that predictions are finite
        and wrong.
    """
    held = [(module, name, value) for module in problem.body.modules() for name, value in _weights(module)]
    versions = tuple((id(value), version(value)) for _, _, value in held)
    if versions == problem.seen.weights and not anew:
        return
    for module, name, value in held:
        bad = ~torch.isfinite(value) if value.requires_grad else torch.isnan(value)
        if bool(bad.any()):
            path = next(path for path, found in problem.body.named_modules(prefix="body") if found is module)
            raise ValueError(
                f"{path}.{name} holds {int(bad.sum())} of {value.numel()} numbers that are NaN or infinite: "
                "predictions of spiking layers hide it, and no attack moves."
            )
    problem.seen.weights = versions


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters and running statistics, as far as they are there."""
    for name, value in module._parameters.items():
        if value is not None and not is_lazy(value):
            yield name, value
    for name in STATISTICS & module._buffers.keys():
        statistic = module._buffers[name]
        if statistic is not None and not is_lazy(statistic):
            yield name, statistic


@contextmanager
def left_alone(problem: Problem, random: States | None = None) -> Iterator[None]:
    """Leave weights, buffers, flags and the global random state as they were, whatever the body does inside the block.

    The weights are out of the graph meanwhile: nobody needs their gradient, so none is computed. What the body draws at
    random comes from the network's own generators.

    :param problem: The network, as the engine sees it.
    :param random: Where those stood, to draw the same once more.
    """
    parameters = [parameter for parameter in problem.body.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with own_randomness(problem, random), buffers_kept(problem):
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def buffers_kept(problem: Problem) -> Iterator[None]:
    """Undo what layers do to their buffers, such as running statistics, inside the block.

    :param problem: The network, as the engine sees it.
    """
    undo = undo_buffers(problem)
    try:
        yield
    finally:
        undo()


def undo_buffers(problem: Problem) -> Callable[[], None]:
    """
    :param problem: The network, as the engine sees it.
    :return: What gives its layers' buffers their present values back.
    """
    buffers = [(buffer, buffer.clone()) for buffer in problem.body.buffers()]

    def undo() -> None:
        for buffer, before in buffers:
            buffer.data.copy_(before)  # not in place for autograd: a graph may have saved the buffer, without using it

    return undo
