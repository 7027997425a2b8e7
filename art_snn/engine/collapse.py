"""The collapsed route, for chains with a gain.

All T steps are simulated without an autograd graph, each spiking layer leaving one gain per neuron. Then the body runs
once, at batch B, each spiking layer multiplying by its gain; the vector-Jacobian product of that replay is the
gradient. Exact where :class:`~art_snn.engine.affine.AffineCheck` lets the replay pass and numbers agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from art_snn.engine.affine import AffineCheck, CannotRun, NotAffine, ReadCheck
from art_snn.engine.compare import ROUNDING, Compare, differ
from art_snn.engine.problem import Problem
from art_snn.engine.visit import Replay, Visits
from art_snn.neurons import Visitor

#: How torch says that memory ran out, where it has no exception of its own for it.
EXHAUSTED = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")


def vjp(output: Tensor, leaf: Tensor, grad: Tensor) -> Tensor:
    if not output.requires_grad:  # a body that cuts the way to its input, as by `detach`
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(output, leaf, grad, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if found is None else found


def side_by_side(visits: Visits, chains: int, copies: int) -> Visits:
    """
    :param visits: What a :class:`Simulate` kept.
    :param chains: Number n of its chains.
    :param copies: Number c >= n of batches; those that are left have the first chain's again.
    :return: The gains alone, `(c*B, ...)`, as if each chain had a batch of its own.
    """
    which = [*range(chains), *[0] * (copies - chains)]
    return [(layer, [torch.cat([kept[index] for index in which]) if copies > 1 else kept[0]]) for layer, kept in visits]


def tiled(values: Tensor, copies: int) -> Tensor:
    """
    :param values: Values `(B, ...)`.
    :param copies: Number c.
    :return: They, c times over, `(c*B, ...)`, in memory of their own.
    """
    return values.repeat(copies, *[1] * (values.dim() - 1))


def alone(problem: Problem, frames: Tensor) -> int:
    """
    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`.
    :return: 2, if a batch is a single sample that could be taken for a time step, otherwise 1.
    """
    return 2 if problem.steps_inside and frames.shape[1] == 1 else 1


def replay(problem: Problem, mean: Tensor, visits: Visits) -> Tensor:
    """One pass of the body at batch B with the gains in place of the neurons, watched by an affine check.

    :param problem: The network, as the engine sees it.
    :param mean: Mean over time of the encoded frames `(B, ...)`, the only leaf that requires a gradient.
    :param visits: What a :class:`Simulate` kept, a chain's gains first.
    :return: Logits `(B, K)`.
    :raises NotAffine: If the body cannot be replayed in one step.
    """
    check = AffineCheck(len(mean))
    visitor = Replay(visits, check.gains)
    with torch.enable_grad(), _no_checkpoints():
        out = at_batch_size(problem, mean, visitor, check, ReadCheck())
    visitor.finish()
    if not out.requires_grad:
        raise NotAffine("the replay's output does not depend on the input")
    return out


@contextmanager
def _no_checkpoints() -> Iterator[None]:
    """Refuse gradient checkpointing, which would run spiking layers once more in the backward pass."""
    try:
        refusing = torch.autograd.graph.disable_saved_tensors_hooks("it keeps its activations by hooks (checkpointing)")
        refusing.__enter__()
    except RuntimeError:  # the caller's own hooks are in force already
        yield
        return
    with ExitStack() as stack:
        stack.push(refusing.__exit__)
        yield


def at_batch_size(problem: Problem, mean: Tensor, visitor: Visitor, *watching: Any) -> Tensor:
    """The body's output for a mean over time `(B, ...)`; what else goes wrong at that size is a :class:`NotAffine`."""
    try:
        with ExitStack() as stack:
            for watch in watching:
                stack.enter_context(watch)
            return problem.once(mean, visitor)
    except (NotAffine, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # it ran at batch T*B, so it is a layer that cannot run at B
        if any(phrase in str(error).lower() for phrase in EXHAUSTED):
            raise
        raise CannotRun(f"the body does not run at batch size B ({type(error).__name__}: {error})") from error


def spread_check(problem: Problem, mean: Tensor, visits: Visits, time_steps: int) -> None:
    """Replay the first samples at a batch size of at least 2 that shares no divisor with T.

    At others an operation that tells time steps apart can look as if it told samples apart, or nothing at all.

    :param problem: The network, as the engine sees it.
    :param mean: Mean over time of the encoded frames `(B, ...)`.
    :param visits: What a :class:`Simulate` kept.
    :param time_steps: T.
    :raises NotAffine: If the body cannot be replayed in one step.
    """
    size = next(n for n in range(2, time_steps + 2) if math.gcd(n, time_steps) == 1)
    rows = torch.arange(size, device=mean.device) % len(mean)
    some = [(layer, [gain[rows] for gain in gains]) for layer, gains in visits]
    replay(problem, mean.detach()[rows].requires_grad_(), some)


def average_check(problem: Problem, mean: Tensor, visits: Visits, logits: Tensor) -> None:
    """The body at batch B meets the mean currents of a simulation, see :class:`Compare`.

    :param problem: The network, as the engine sees it.
    :param mean: Mean over time of the frames `(B, ...)`.
    :param visits: What a :class:`Simulate` kept of them, averages included.
    :param logits: Their logits `(B, K)`.
    :raises NotAffine: If they differ.
    """
    compare = Compare(visits)
    with torch.no_grad():
        out = at_batch_size(problem, mean, compare)
    compare.agree(out, logits)


def adjoint_check(problem: Problem, mean: Tensor, visits: Visits) -> None:
    """The backward pass of a replay is that of its forward pass: no hook, and no reading in between, changes it.

    A replay is affine, so that a step of any length in its input changes its output by the derivative: for random g and
    δ, g · (f(x + δ) - f(x)) must be (g J) · δ, sample by sample.

    :param problem: The network, as the engine sees it.
    :param mean: Mean over time of the frames `(B, ...)`.
    :param visits: What a :class:`Simulate` kept, a chain's gains first.
    :raises NotAffine: If they differ.
    """
    copies = 2 if len(mean) == 1 else 1
    mean, visits = tiled(mean.detach(), copies), side_by_side(visits, 1, copies)
    leaf = mean.clone().requires_grad_()
    replayed = replay(problem, leaf, visits)
    generator = torch.Generator().manual_seed(0)
    (at_logits, step) = (torch.randn(value.shape, generator=generator).to(value) for value in (replayed, mean))
    step = step * mean.abs().mean().clamp(min=1e-3)
    pulled = vjp(replayed, leaf, at_logits)
    with torch.no_grad():
        value = replayed.detach()

        def change() -> Tensor:
            return at_batch_size(problem, mean + step, Replay(visits, set())) - value

        changed = change()
        longer = value.norm() / changed.norm()
        if torch.isfinite(longer) and longer > 1:  # so that rounding of the output does not drown its change
            step = step * longer
            changed = change()
        size = at_logits.flatten(1).norm(dim=1).double()
        rounding = 32 * torch.finfo(value.dtype).eps / ROUNDING * value.flatten(1).norm(dim=1).double()
        found = (pulled * step).flatten(1).double().sum(1)
        expected = (at_logits * changed).flatten(1).double().sum(1)
        largest = size * torch.maximum(changed.flatten(1).norm(dim=1).double(), rounding)
        if differ(found, expected, largest, value.dtype):
            raise NotAffine("its backward pass is not that of its forward pass: something changes the gradient")
