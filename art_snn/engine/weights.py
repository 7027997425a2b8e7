r"""The weight gradient of Eq. 13 (Hao et al., ICLR 2024) in a single pass.

Along a chain with a gain, the gradient ∂L/∂m of a layer is the same at every step, so that Eq. 13 becomes

.. math:: ∇_W L = \sum_t \left[\frac{∂L}{∂m}\right] \frac{∂m(t)}{∂W}
               = \left[\frac{∂L}{∂m}\right] \sum_t s^{l-1}(t)^⊤ = T \left[\frac{∂L}{∂m}\right] r^{l-1 ⊤}

Simulate all T steps without a graph, keeping each layer's gains and firing rates; then run the body once, at batch B,
on the mean input, each spiking layer giving its firing rate as value and its gain as derivative. Ordinary autograd
through that pass yields Eq. 13.

It equals the step-by-step weight gradient where the layers between spiking layers are affine, batch norm in evaluation
mode included. Batch norm in training mode is used with the statistics of all T steps, as in the simulation, and passes
the gradient of its mean exactly; of its variance, the part between samples is differentiated and the part within a
sample, over time, is held constant. That is an approximation: the exact term correlates the normalised input at every
single step with what lies below, which no pass at batch B can hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from art_snn.chains import BackwardChain
from art_snn.engine.affine import NotAffine
from art_snn.engine.claims import NotItsGain
from art_snn.engine.collapse import adjoint_check, replay, spread_check
from art_snn.engine.compare import Compare, due, refusal, remember
from art_snn.engine.isolate import buffers_kept, left_alone, undo_buffers
from art_snn.engine.layout import Layout, over_time
from art_snn.engine.problem import Problem
from art_snn.engine.visit import AVERAGES, Rule, Simulate, StepByStep, stays
from art_snn.neurons import NoGain, SpikingLayer

Statistics = tuple[Tensor, Tensor]  # of one batch norm over all steps: mean and variance of each channel


def logits_for_training(problem: Problem, frames: Tensor, chain: BackwardChain) -> Tensor:
    """Logits whose gradient in the weights follows a chain: in one pass where it can be, step by step otherwise.

    :param problem: The problem, as the engine sees it.
    :param frames: Encoded frames `(T, B, ...)`.
    :param chain: The chain, which must follow the simulation.
    :return: Logits `(B, K)`.
    """
    compare = due(problem, frames, [chain])
    rule = Rule(chain, frames.shape[1])
    stepwise = StepByStep(Simulate(frames.shape[0], frames.shape[1], layout=problem.layout), [rule], compare.layers)
    if problem.layout is Layout.STEPS:
        raise ValueError("a network that runs step by step is trained by its own library, not by a chain.")
    if not chain.has_gain or problem.gradient_route == "step-by-step" or refusal(problem, [chain], compare):
        return problem.run(frames, stepwise)
    averages = len(AVERAGES) if compare.numbers else 1
    simulate = Simulate(frames.shape[0], frames.shape[1], [rule], averages, compare.layers, layout=problem.layout)
    recorder, mean, undo = _RecordBatchNorm(), over_time(frames), undo_buffers(problem)
    try:
        with torch.no_grad(), recorder:
            logits = problem.run(frames, simulate)
        _check(problem, mean, simulate, recorder, compare.numbers)
        visitor, replay_norm = _Replay(simulate.visits), _ReplayBatchNorm(recorder.statistics, constant=False)
        with buffers_kept(problem), replay_norm:
            out = problem.once(mean, visitor)
        visitor.agree(out, logits)
    except (NotAffine, NotItsGain, NoGain) as reason:
        if problem.gradient_route == "collapsed":
            raise ValueError(f"gradient_route='collapsed' cannot be taken: {reason}.") from None
        remember(problem, reason, compare)
        undo()  # the step is taken again
        return problem.run(frames, stepwise)
    for layer, _ in simulate.visits:
        stays(layer, chain)
    return out


class _Replay(Compare):
    """Visitor: the firing rate as value, the gain as derivative."""

    def __call__(self, layer: SpikingLayer, x: Tensor) -> Tensor:
        gain, rate, *averages = self.kept(layer, x)
        if averages:
            self.note(x, *averages)
        return _RateWithGain.apply(x, rate, gain)


class _RateWithGain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, rate: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(gain)
        return rate.view_as(rate)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gain,) = ctx.saved_tensors
        return grad * gain, None, None


def _check(problem: Problem, mean: Tensor, simulate: Simulate, recorder: _RecordBatchNorm, numbers: bool) -> None:
    """Watch a replay with the weights out of the graph; batch norm in training mode is affine, given its statistics.

    :raises NotAffine: If the body is not.
    """
    visits, leaf = simulate.visits, mean.detach().clone().requires_grad_()
    with left_alone(problem):
        with _ReplayBatchNorm(recorder.statistics, constant=True):
            replay(problem, leaf, visits)
        with _ReplayBatchNorm(recorder.statistics, constant=True):
            spread_check(problem, mean, visits, simulate.time_steps)
        if numbers:
            with _ReplayBatchNorm(recorder.statistics * 3, constant=True):  # it may run the body three times
                adjoint_check(problem, mean, visits)


class _BatchNorm(TorchFunctionMode):
    """Takes the place of every batch norm in training mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            call = _batch_norm_arguments(*args, **kwargs)
            if call["training"]:
                return self.normalise(**call)
        return func(*args, **kwargs)

    def normalise(self, **call: Any) -> Tensor:
        raise NotImplementedError


def _batch_norm_arguments(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> dict[str, Any]:
    return dict(locals())


class _RecordBatchNorm(_BatchNorm):
    """Normalises as usual, running statistics included, and keeps the statistics of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics: list[Statistics] = []

    def normalise(self, **call: Any) -> Tensor:
        out, mean, inverse = torch.native_batch_norm(
            call["input"],
            call["weight"],
            call["bias"],
            call["running_mean"],
            call["running_var"],
            True,
            call["momentum"],
            call["eps"],
        )
        self.statistics.append((mean, inverse.pow(-2) - call["eps"]))
        return out


class _ReplayBatchNorm(_BatchNorm):
    """Normalises a time average with the recorded statistics; running statistics are left alone.

    :param statistics: Mean and variance over all steps, in the order of the calls.
    :param constant: Whether to hold them constant, or to differentiate their part between samples.
    """

    def __init__(self, statistics: list[Statistics], constant: bool) -> None:
        super().__init__()
        self.statistics: Iterator[Statistics] = iter(statistics)
        self.constant = constant

    def normalise(self, **call: Any) -> Tensor:
        x, weight, bias = call["input"], call["weight"], call["bias"]
        mean, variance = next(self.statistics, (None, None))
        if mean is None or variance is None:
            raise NotAffine("a batch norm runs more often at batch size B than in the simulation")
        if not self.constant:
            own_variance, own_mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
            mean = mean + (own_mean - own_mean.detach())
            variance = variance + (own_variance - own_variance.detach())
        scale = (variance + call["eps"]).rsqrt()
        if weight is not None:
            scale = scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        channels = (1, -1, *[1] * (x.dim() - 2))
        return x * scale.view(channels) + shift.view(channels)
