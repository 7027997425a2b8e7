"""What is known of a library: which of its modules are neurons, what they do, where they keep their state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.neurons import LIF
from art_snn.neurons.values import Value


class Refused(ValueError):
    """A module cannot be adapted; the message is a sentence that says why."""


@dataclass(frozen=True)
class Description:
    """What neurons of another library do, in the terms of Eqs. 1-4.

    :param neuron: Neurons that do the same with the same currents.
    :param weight: The factor by which an input enters the potential: the current is the input times it. A number, or a
        tensor as `LIF` takes them.
    :param limit: Up to which potential, in units of the threshold, this holds; infinity for all. One beyond it is an
        error.
    """

    neuron: LIF
    weight: Value = 1.0
    limit: float = math.inf


def number(value: Any) -> Value:
    """
    :param value: A number, or a tensor.
    :return: A float; or a tensor, where it has more than one entry.
    """
    if not isinstance(value, Tensor):
        return float(value)
    value = value.detach()
    return float(value) if value.numel() == 1 else value


class Library:
    """One library; this one has no neurons."""

    #: Its name in messages.
    name = ""

    def describe(self, module: nn.Module) -> Description | None:
        """
        :param module: A module of a network.
        :return: What its neurons do; None if it is no neuron.
        :raises Refused: If it is a neuron that no chain over all steps can cross.
        """
        return None

    def reset(self, module: nn.Module) -> None:
        """Forget what a module kept of the steps before, graphs included."""

    def form(self, module: nn.Module) -> str | None:
        """
        :param module: A neuron module.
        :return: Where its inputs have time: `"step"`, `"time-first"`, `"batch-first"` or `"merged"`; None if only a
            pass shows it.
        """
        return None

    def keeps_state(self, module: nn.Module) -> bool:
        """Whether a neuron module keeps its state itself from step to step."""
        return True

    def returns_state(self, module: nn.Module) -> bool:
        """Whether a neuron module gives its state beside its spikes."""
        return False

    def run(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Run the library's own code.

        :param module: A neuron module.
        :param x: Its input, of a step, or of all.
        :param state: What the step before gave; None at the first.
        :return: Its output, and its state if it gives one.
        """
        return type(module).forward(module, x), None

    def functional(self, module: nn.Module) -> str | None:
        """Name of a method that takes `((x,), state)` and gives `((output,), state)`, by which it may be called too."""
        return None

    def memories(self, module: nn.Module) -> Any:
        """What :meth:`functional` gives for a state."""
        return None

    def packed(self, spikes: Tensor, state: Any) -> Any:
        """What a neuron module gives that gives its state too."""
        return spikes, state

    def learns_only(self, module: nn.Module) -> bool:
        """Whether a neuron module has a derivative of its own in training mode only."""
        return False

    def begun(self, module: nn.Module, state: Any) -> bool:
        """Whether a state that is handed to the first step is that of a neuron which has seen nothing."""
        return all(not bool(part.detach().any()) for part in tensors(state))

    def synapse(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What stands between an input and the membrane, differentiable: by itself, nothing.

        :param module: A neuron module.
        :param x: Its input of a step `(B, ...)`.
        :param state: What the step before gave; None at the first.
        :return: The membrane's input, and the synapse's state.
        """
        return x, None

    def has_synapse(self, module: nn.Module) -> bool:
        """Whether :meth:`synapse` does something."""
        return False

    def output(self, network: nn.Module, out: Any) -> Any:
        """What a network of this library gives, without the states that come with it."""
        return out


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, (tuple, list)):
        return [part for inner in state for part in tensors(inner)]
    return []


#: By the name of the package that a module's class is of.
LIBRARIES = {"spikingjelly": "SpikingJelly", "snntorch": "SnnTorch", "norse": "Norse"}
#: Of these nothing is known that would let a chain cross their neurons.
UNKNOWN = {"sinabs": "sinabs", "bindsnet": "BindsNET", "slayer": "slayer", "lava": "Lava", "rockpool": "Rockpool"}


def library_of(module: nn.Module) -> Library | None:
    """
    :param module: A module of a network.
    :return: The library that it, or a class that it is of, comes from; None if from none.
    """
    for kind in type(module).__mro__:
        root = kind.__module__.partition(".")[0]
        if root in LIBRARIES:
            found = getattr(import_module(f"art_snn.adapters.{root}"), LIBRARIES[root])()
            assert isinstance(found, Library)
            return found
    return None


def is_scripted(module: nn.Module) -> bool:
    """Whether torch compiled it to something whose calls cannot be met."""
    return isinstance(module, torch.jit.ScriptModule)
