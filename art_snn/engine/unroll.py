"""The step-by-step route: the body's graph over all T steps, each spiking layer crossed by a chain's definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_snn.engine.collapse import vjp
from art_snn.engine.problem import Problem
from art_snn.engine.visit import Rule, Simulate, StepByStep
from art_snn.neurons import visiting


class Unrolled:
    """One pass of the body over all steps, with its graph, that any number of chains cross one after the other.

    :param problem: The network, as the engine sees it.
    :param frames: Encoded frames `(T, b, ...)`, without a graph.
    :param simulate: Runs the neurons, and keeps the gains of other chains meanwhile.
    :param rules: The chains that cross.
    :param compare: Whether to compare what layers say of themselves with what they do.
    """

    def __init__(
        self, problem: Problem, frames: Tensor, simulate: Simulate, rules: Sequence[Rule], compare: bool
    ) -> None:
        self.tape = StepByStep(simulate, rules, compare)
        self.leaf = frames.detach().requires_grad_()
        with torch.enable_grad():
            self.logits = problem.run(self.leaf, self.tape)
        self.tape.built = True

    def pull(self, rule: Rule, grad: Tensor) -> Tensor:
        """
        :param rule: One of the chains.
        :param grad: Gradient at the logits `(b, K)`.
        :return: Gradient at the frames `(T, b, ...)`.
        """
        self.tape.rule = rule
        with visiting(self.tape):  # checkpointed parts of the body run again
            return vjp(self.logits, self.leaf, grad)
