"""The loop that gradient attacks of our own share: along the chain, step by step.

A subclass gives only the step. A sample whose gradient is zero stays where it is, and is never NaN; a chain with state
keeps it for one start, aligned with the samples that are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from art_snn.attacks.ball import BallAttack, Best
from art_snn.attacks.gradient import draws, logits, logits_and_gradient
from art_snn.attacks.losses import LOSSES
from art_snn.chains.state import Run
from art_snn.classifier import PyTorchSNNClassifier

#: What an attack keeps of each sample from step to step: tensors `(B, ...)`.
Memory = tuple[Tensor, ...]

#: By how much batches of different sizes may round a margin differently, in units of a sample's largest logit.
ROUNDING = 1e-4


class SteppedAttack(BallAttack):
    """A gradient attack in steps, whose parameters are those of :class:`~art_snn.attacks.ball.BallAttack`."""

    def first(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """
        :param x: Inputs `(B, ...)`.
        :param seeds: A seed for each.
        :return: Where a start begins: somewhere in the ball, uniform.
        """
        return self._project(x + self._random(x, seeds), x)

    def begin(self, x: Tensor) -> Memory:
        """
        :param x: Inputs `(B, ...)`.
        :return: What the attack keeps of each sample, before the first step.
        """
        raise NotImplementedError

    def step(self, grad: Tensor, memory: Memory, number: int) -> tuple[Tensor, Memory]:
        """
        :param grad: Gradient of the loss to be made large, `(B, ...)`, finite.
        :param memory: What was kept.
        :param number: Number of the step, from 0.
        :return: By how much the samples move, before they are projected, and what is kept now.
        """
        raise NotImplementedError

    def _start(self, clean: Tensor, labels: Tensor, left: Tensor, seeds: Sequence[int], best: Best, bar: Any) -> None:
        """One start of the samples that are left, which are places in the batch."""
        here = clean[left]
        x, memory = self.first(here, seeds), self.begin(here)
        active = torch.arange(len(left), device=clean.device)  # places in `left`
        with self._run() as run:
            for number in range(self.max_iter):
                rows = self._rows(active, len(left))
                if number and run is not None:
                    run.only(rows)
                before = draws(self.estimator)
                found, grad = self._gradient(x[rows], labels[left[rows]])
                self._look(best, left, rows, x, labels, found, before)
                moved, now = self.step(
                    torch.nan_to_num(grad, 0.0, 0.0, 0.0), tuple(part[rows] for part in memory), number
                )
                memory = tuple(old.index_copy(0, rows, new) for old, new in zip(memory, now, strict=True))
                x = x.index_copy(0, rows, self._project(x[rows] + moved, here[rows]))
                if self.until_fooled:
                    active = active[~best.fooled[left[active]]]
                bar.update(1)
                if not len(active):
                    bar.update(self.max_iter - 1 - number)
                    return
        before = draws(self.estimator)
        self._look(best, left, active, x, labels, logits(self.estimator, x[active]), before)

    def _look(
        self, best: Best, left: Tensor, rows: Tensor, x: Tensor, labels: Tensor, found: Tensor, before: int | None
    ) -> None:
        """Keep what is better among some iterates; those that only fill up a batch had their end."""
        if self.until_fooled:
            still = ~best.fooled[left[rows]]
            rows, found = rows[still], found[still]
        places = left[rows]
        best.take(places, x[rows], *self._judged(x[rows], labels[places], found, before))

    def _judged(self, x: Tensor, labels: Tensor, found: Tensor, before: int | None) -> tuple[Tensor, Tensor]:
        """How far samples `x` are beyond being fooled, of whose logits `found`, and which are. What seems to fool is
        predicted, and counts if that says so too; where nothing was drawn since `before`, logits are what is
        predicted, but for rounding."""
        ahead, fools = self._progress(found, labels)
        doubtful = fools
        if before is not None and draws(self.estimator) == before:
            doubtful = fools & (ahead.abs() <= ROUNDING * found.abs().amax(1))
        if bool(doubtful.any()):
            again = logits(self.estimator, x[doubtful])
            ahead[doubtful], fools[doubtful.clone()] = self._progress(again, labels[doubtful])
        return ahead, fools

    def _gradient(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        objective = LOSSES[self.loss_type]
        return logits_and_gradient(
            self.estimator, x, labels, objective.targeted if self.targeted else objective.untargeted
        )

    @contextmanager
    def _run(self) -> Iterator[Run | None]:
        """The state of the chain, if it is one with state, over one start."""
        chain = self.estimator.chain if isinstance(self.estimator, PyTorchSNNClassifier) else None
        if chain is None or not any(part.has_state for _, part in chain.parts()):
            yield None
            return
        with chain.run() as run:
            yield run

    def _rows(self, active: Tensor, number: int) -> Tensor:
        """The samples of the next gradient: those that are left, and others to make up one of few sizes, since what a
        network claims is compared anew at every size of a batch."""
        size = min(number, _ladder(len(active)))
        if size == len(active):
            return active
        others = torch.ones(number, dtype=torch.bool, device=active.device)
        others[active] = False
        return torch.cat([active, others.nonzero().flatten()[: size - len(active)]])


def _ladder(number: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24 ... that is at least a number."""
    power = 1 << max(0, number - 1).bit_length()
    return power * 3 // 4 if power >= 4 and number <= power * 3 // 4 else power
