"""Where a network keeps time, and `(T, B, ...)`, as neurons and chains see it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from art_snn.neurons import SpikingLayer

#: Elements of one layer's trace that are simulated at a time on a CPU, so that they stay in its cache.
BLOCK = 1 << 18


class Layout(Enum):
    """How a network is run, and so what its spiking layers get and give."""

    #: Time merged into the batch, time first: `(T*B, ...)`; or `(B, ...)`, the same at every step.
    MERGED = "merged"
    #: `(T, B, ...)`.
    TIME_FIRST = "time-first"
    #: One call of the network for each step: `(B, ...)`, T times. A trace is put together from its visits.
    STEPS = "steps"


class Unfold:
    """Between what a spiking layer gets in a network's layout, and `(T, B, ...)`.

    :param time_steps: T.
    :param batch: B.
    :param layout: The network's.
    """

    def __init__(self, time_steps: int, batch: int, layout: Layout = Layout.MERGED) -> None:
        self.time_steps, self.batch, self.layout = time_steps, batch, layout

    def unfold(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        """
        :param layer: The layer that got it, for the error.
        :param x: What it got, of all steps.
        :return: It, `(T, B, ...)`.
        :raises ValueError: If it has another shape.
        """
        shape, name = (self.time_steps, self.batch), type(layer).__name__
        if self.layout is Layout.TIME_FIRST:
            if x.shape[:2] != shape:
                raise ValueError(f"{name} got an input of shape {tuple(x.shape)}; it must begin with (T, B) = {shape}.")
            return x
        if x.dim() and len(x) == self.time_steps * self.batch:
            return x.unflatten(0, shape)
        if x.dim() and len(x) == self.batch:  # the same current at every step
            return x.unsqueeze(0).expand(self.time_steps, *x.shape)
        raise ValueError(
            f"{name} got an input of shape {tuple(x.shape)}; its first dimension must be "
            f"time_steps * batch = {self.time_steps * self.batch}: the body's layers must keep it."
        )

    def fold(self, spikes: Tensor) -> Tensor:
        """
        :param spikes: What a layer gives, `(T, B, ...)`.
        :return: It, as the layers above want it.
        """
        return spikes if self.layout is Layout.TIME_FIRST else spikes.flatten(0, 1)


def empty_like(currents: Tensor) -> Tensor:
    """An uninitialised `(T, B, ...)` tensor in the memory layout of `currents`, also if those are expanded over T."""
    if currents.stride(0) == 0 and len(currents) > 1:
        return torch.empty(currents.shape, dtype=currents.dtype, device=currents.device)
    return torch.empty_like(currents)


def blocks(currents: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the batch whose traces stay in a CPU's cache, slice and currents; the whole batch on other devices."""
    batch = currents.shape[1]
    size = batch
    if currents.device.type == "cpu":
        size = max(1, BLOCK // max(1, currents[:, 0].numel()))
    for start in range(0, batch, size):
        block = slice(start, min(start + size, batch))
        yield block, full(currents[:, block])


def full(x: Tensor) -> Tensor:
    """In at least 32 bits, also under autocast: neurons sum over time, and their spikes are exact in any type."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def loudest(currents: Tensor) -> Tensor:
    """
    :param currents: Currents `(T, B, ...)` of a layer.
    :return: Those of the sample with the largest, `(T, 1, ...)`, which shows most.
    """
    largest = torch.nan_to_num(currents.flatten(2).amax(2).amax(0), -torch.inf, -torch.inf)
    place = int(largest.argmax())
    return currents[:, place : place + 1]


def over_time(frames: Tensor) -> Tensor:
    """
    :param frames: Frames `(T, B, ...)`.
    :return: Their mean over time `(B, ...)`; exactly the frame, where all are the same one.
    """
    return frames[0] if frames.stride(0) == 0 else frames.mean(0)


def checked_output(out: Any, rows: int) -> Tensor:
    """
    :param out: What a body returned.
    :param rows: Number of rows that it was given, T*B or B.
    :return: It, `(rows, K)`.
    :raises TypeError: If it is no tensor.
    :raises ValueError: If it has another shape.
    """
    if not isinstance(out, Tensor):
        got = type(out).__name__
        if isinstance(out, (tuple, list)):
            got += f" of {', '.join(type(part).__name__ for part in out)}"
        raise TypeError(
            f"body must return one tensor (T*B, K), the output at every step, got a {got}: wrap it in a module that "
            "returns the output alone."
        )
    if out.dim() != 2 or len(out) != rows:
        raise ValueError(f"body must map (T*B, ...) to (T*B, K), here ({rows}, K), got {tuple(out.shape)}.")
    return out
