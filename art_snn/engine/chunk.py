"""How much of a batch runs at once: the only place that cuts one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from art_snn.engine.affine import NotAffine
from art_snn.engine.layout import Layout
from art_snn.engine.problem import Problem
from art_snn.engine.visit import Rule, Simulate, Visits
from art_snn.neurons import SpikingLayer

#: Bytes of the largest spiking layer's activations in one go on a CPU, where no graph is kept: larger tensors come as
#: fresh pages from the operating system at every layer, which costs more than it saves to run more samples at once.
CHUNK = 16 << 20


class _Measure(Simulate):
    """Visitor: simulate, and keep the bytes that every visit of a spiking layer gave."""

    def __init__(self, time_steps: int, batch: int, layout: Layout) -> None:
        super().__init__(time_steps, batch, layout=layout)
        self.sizes: list[int] = []

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        spikes = super().__call__(layer, x)
        self.sizes.append(spikes.numel() * spikes.element_size())
        return spikes


def footprint(problem: Problem, frames: Tensor) -> tuple[int, int]:
    """Activation memory per sample, measured once for a shape on a single blank sample.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`; only their shape and type count.
    :return: Bytes of the largest spiking layer's activations over all T steps, and of all spiking layers' together.
    """
    key = (tuple(frames.shape[2:]), len(frames), frames.dtype)
    known = problem.seen.footprints
    if key not in known:
        measure = _Measure(len(frames), 1, layout=problem.layout)
        with torch.no_grad(), torch.random.fork_rng(devices=[frames.device] if frames.is_cuda else []):
            problem.run(torch.zeros_like(frames[:, :1]), measure)
        steps = len(frames) if problem.layout is Layout.STEPS else 1
        known[key] = (steps * max(measure.sizes), sum(measure.sizes))
    return known[key]


def batch_chunks(problem: Problem, frames: Tensor, graph: bool = False, replays: int = 0) -> list[slice]:
    """Slices of the batch that can run at once within the network's bound on activation memory.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`.
    :param graph: Whether the activations of all steps are kept for a backward pass.
    :param replays: How many replays at batch B are kept for one.
    :return: The whole batch in one slice where it fits, or where a layer in training mode sees the batch as a whole.
    """
    time_steps, batch = frames.shape[:2]
    bound = problem.memory_bound
    if not graph and not replays and frames.device.type == "cpu":
        bound = min(bound, 3 * CHUNK)
    size = batch
    # No network is likely to need more than 256 numbers for every number of its input.
    small = frames.numel() * frames.element_size() * 256 <= bound
    if not small and not any(module.training for module in problem.body.modules()):
        largest, total = footprint(problem, frames)
        # A convolution, its batch norm and the spikes stand beside each other; a graph keeps them all.
        needed = 3 * (graph * total + replays * total // time_steps or largest)
        size = max(1, bound // max(1, needed))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


class Simulated(NamedTuple):
    """What a simulation left.

    :param logits: Logits `(B, K)`.
    :param visits: For every visit of a spiking layer the layer and what was kept of it, `(B, ...)`.
    :param showed: Whether what was compared showed something.
    """

    logits: Tensor
    visits: Visits
    showed: bool


def simulate_in_chunks(
    problem: Problem,
    frames: Tensor,
    rules: Sequence[Rule] = (),
    averages: int = 0,
    compare: bool = False,
    first: int = 0,
) -> Simulated:
    """Run the network without a graph, some samples at a time.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`.
    :param rules: Chains whose gains are wanted.
    :param averages: How many averages over time are wanted too, see :class:`Simulate`.
    :param compare: Whether to compare what layers and chains say of themselves with what they do, see
        :class:`Simulate`.
    :param first: Place of the first of these samples in the whole batch.
    :return: Logits and visits.
    """
    showed = True
    logits: list[Tensor] = []
    merged: Visits = []
    chunks = batch_chunks(problem, frames)
    with torch.no_grad():
        for chunk in chunks:
            size, here = chunk.stop - chunk.start, first + chunk.start
            simulate = Simulate(len(frames), size, rules, averages, compare and not logits, here, problem.layout)
            logits.append(problem.run(frames[:, chunk], simulate))
            simulate.finish()
            showed &= simulate.showed
            if len(chunks) == 1:
                return Simulated(logits[0], simulate.visits, showed)
            if not merged:
                merged = [(layer, [_for_all(frames, part) for part in kept]) for layer, kept in simulate.visits]
            _put(simulate.visits, merged, chunk)
            del simulate  # before the next one begins
    return Simulated(torch.cat(logits), merged, showed)


def _for_all(frames: Tensor, part: Tensor) -> Tensor:
    """Room for all samples of `frames` `(T, B, ...)` for what `part` `(b, ...)` is of some of them."""
    return part.new_empty((frames.shape[1], *part.shape[1:]))


def _put(visits: Visits, merged: Visits, chunk: slice) -> None:
    """Put what a chunk left into its place at once, so that the chunk's own can go.

    What stays behind chunk after chunk, small, between tensors that are large and short-lived leaves holes into which
    no large one fits, and the process grows with every chunk.

    :raises NotAffine: If a chunk of another size left other shapes.
    """
    for (_, wholes), (_, parts) in zip(merged, visits, strict=True):
        for whole, part in zip(wholes, parts, strict=True):
            if whole[chunk].shape != part.shape:
                raise NotAffine("the shape of a spiking layer's input changes with the batch size")
            whole[chunk] = part
