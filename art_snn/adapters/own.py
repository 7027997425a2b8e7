"""Neuron classes of the user's own, which he describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from art_snn.adapters.library import Description, Library, Refused
from art_snn.neurons import LIF

#: What a module holds that is no state.
FIXED = {"_parameters", "_modules", "_buffers", "training"}


class Own(Library):
    """Neuron classes that are described by functions of the module.

    A state that such a module keeps (an attribute, or a buffer) is found by a look at what a pass changed, and set back
    to what it was when the network was adapted.

    :param described: The functions by class.
    """

    name = "the user"

    def __init__(self, described: Mapping[type[nn.Module], Callable[[Any], LIF | Description]]) -> None:
        self.described = dict(described)
        #: Attributes and buffers of a module when it was adapted.
        self.kept: dict[nn.Module, tuple[dict[str, Any], dict[str, Any]]] = {}

    def is_described(self, module: nn.Module) -> bool:
        return any(kind in self.described for kind in type(module).__mro__)

    def describe(self, module: nn.Module) -> Description | None:
        function = next((self.described[kind] for kind in type(module).__mro__ if kind in self.described), None)
        if function is None:
            return None
        found = function(module)
        found = Description(found) if isinstance(found, LIF) else found
        if not isinstance(found, Description):
            raise Refused(
                f"neurons[{type(module).__name__}] must give an art_snn.LIF, or an art_snn.adapters.Description with "
                f"one, got {type(found).__name__}."
            )
        return found

    def keep(self, module: nn.Module) -> None:
        """Note what a module holds before it ran."""
        self.kept[module] = (self._attributes(module), {name: _copied(value) for name, value in _buffers(module)})

    def reset(self, module: nn.Module) -> None:
        if hasattr(module, "reset") and callable(module.reset):
            module.reset()
            return
        attributes, buffers = self.kept[module]
        now = self._attributes(module)
        for name in set(now) - set(attributes):
            if isinstance(now[name], Tensor):  # what a pass made
                delattr(module, name)
        for name, value in attributes.items():
            # A state is a tensor after a pass, whatever it was before; what else changes, its owner changed.
            if now.get(name) is not value and (isinstance(now.get(name), Tensor) or isinstance(value, Tensor)):
                setattr(module, name, value)
        for name, value in buffers.items():
            if value is not None:
                module._buffers[name] = value.clone()

    @staticmethod
    def _attributes(module: nn.Module) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(module).items()
            if name not in FIXED and not name.startswith("_") and name != "forward"
        }

    def keeps_state(self, module: nn.Module) -> bool:
        return False  # it may; what it gives is compared with the network's own pass

    def run(self, module: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        out = type(module).forward(module, x)
        if not isinstance(out, Tensor):
            raise Refused(
                f"{type(module).__name__} gives a {type(out).__name__}; neurons must give their spikes alone."
            )
        return out, None


def _buffers(module: nn.Module) -> list[tuple[str, Tensor | None]]:
    return list(module._buffers.items())


def _copied(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach().clone()


def checked(neurons: Any) -> dict[type[nn.Module], Callable[[Any], LIF | Description]]:
    """
    :param neurons: What was given as `neurons`.
    :return: It.
    :raises TypeError: If it does not map classes of modules to functions.
    """
    if neurons is None:
        return {}
    if not isinstance(neurons, Mapping):
        raise TypeError(f"neurons must map neuron classes to functions of a module, got {type(neurons).__name__}.")
    for kind, function in neurons.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise TypeError(f"neurons must have classes of modules as keys, got {kind!r}.")
        if not callable(function) or isinstance(function, nn.Module):
            raise TypeError(f"neurons[{kind.__name__}] must be a function of the module, got {function!r}.")
    return dict(neurons)
