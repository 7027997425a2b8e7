"""What a neuron is set by: a number, a tensor over channels, neurons or time steps, or a parameter that is learned.

How a tensor lies over the neurons goes by its number of dimensions alone, so that one over the channels is never taken
for one over the width because the two happen to be as large.
"""

from __future__ import annotations

import math
from typing import TypeGuard

import torch
from torch import Tensor, nn

#: A number, or a tensor that broadcasts against `(T, B, ...)`, with 1 in place of B.
Value = float | Tensor


def spread(owner: str, name: str, value: Value, shape: torch.Size, dtype: torch.dtype, steps: bool = True) -> Value:
    """
    :param owner: Whose setting it is, for errors.
    :param name: The setting.
    :param value: A number; or a tensor without dimensions, over the channels `(C,)`, over the neurons, or with a
        dimension of time steps before those of the neurons. A dimension of 1 stands for all.
    :param shape: Shape of the currents, `(T, B, ...)`; T is 0 where it is not known.
    :param dtype: Their type.
    :param steps: Whether it may change with the time step.
    :return: The number; or the tensor in that type, so that it broadcasts against the currents: `(T, 1, ...)` where it
        changes with the time step, else `(1, 1, ...)`.
    :raises ValueError: If the tensor has a shape that does not fit.
    """
    if not isinstance(value, Tensor):
        return value
    neurons, size = tuple(shape[2:]), tuple(value.shape)
    if len(size) == 0:
        lies = (1, *[1] * len(neurons))
    elif len(size) == len(neurons):
        lies = (1, *size)
    elif len(size) == len(neurons) + 1 and steps:
        lies = size
    elif len(size) == 1 and neurons:
        lies = (1, *size, *[1] * (len(neurons) - 1))
    else:
        lies = ()
    expected = (shape[0] or (lies[0] if lies else 0), *neurons)
    if not lies or any(is_ not in (1, wanted) for is_, wanted in zip(lies, expected, strict=True)):
        ways = [f"{neurons[:1]} for each channel"] if neurons else []
        ways += [f"{neurons} for each neuron"] if len(neurons) > 1 else []
        ways += [f"({shape[0] or 'T'}, {', '.join(map(str, neurons))}) for each time step"] if steps else []
        raise ValueError(
            f"{name} of {owner} is a tensor of shape {size}, but its neurons are of shape {neurons}: expected a "
            f"number, {', '.join(ways)} (a dimension of 1 stands for all)."
        )
    return value.to(dtype).reshape(lies[0], 1, *lies[1:])


def at(value: Value, step: int) -> Value:
    """
    :param value: What `spread` gives.
    :param step: A time step, from 0.
    :return: It at that step: a number, or a tensor that broadcasts against `(B, ...)`.
    """
    if not isinstance(value, Tensor):
        return value
    return value[0] if len(value) == 1 else value[step]


def changes(value: Value) -> TypeGuard[Tensor]:
    """
    :param value: What `spread` gives.
    :return: Whether it may change with the time step.
    """
    return isinstance(value, Tensor) and len(value) > 1


def within(value: Value, low: float, high: float) -> bool:
    """Whether all of it lies in the interval, its upper end included; what has no numbers yet does."""
    if not isinstance(value, Tensor):
        return low < value <= high
    return value.is_meta or bool(((value > low) & (value <= high)).all())


def checked(name: str, value: object) -> Value:
    """
    :param name: A setting.
    :param value: What was given for it.
    :return: A finite float; or a tensor of such, a parameter if it was one.
    :raises ValueError: If it is something else.
    """
    if isinstance(value, Tensor):
        if value.requires_grad and not isinstance(value, nn.Parameter):
            raise ValueError(
                f"{name} must be a torch.nn.Parameter to be learned, got a tensor that requires a gradient."
            )
        if not value.is_floating_point():
            value = value.to(torch.get_default_dtype())
        if not value.is_meta and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must hold finite numbers, got {value!r}.")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, a tensor or a torch.nn.Parameter, got {value!r}.")
    return float(value)


def shown(value: Value | None) -> str:
    """A setting in words; of a tensor its kind and shape, since its numbers are among the weights."""
    if not isinstance(value, Tensor):
        return repr(value)
    return f"{type(value).__name__}{tuple(value.shape)}"


def spanned(value: object) -> str:
    """What was given for a setting, in an error: of a tensor its kind, shape and range."""
    if not isinstance(value, Tensor) or value.is_meta or value.numel() == 0:
        return repr(value)
    low, high = value.detach().aminmax()
    return f"{shown(value)} from {float(low):g} to {float(high):g}"
