"""The step-by-step route: the body's graph over all T steps, each spiking layer crossed by a chain's definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_snn.chains.state import Visit
from art_snn.engine.collapse import vjp
from art_snn.engine.problem import Problem, named
from art_snn.engine.visit import Cut, Rule, Simulate, StepByStep, crossings
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
        self.problem = problem
        self.tape = StepByStep(simulate, rules, compare)
        self.leaf = frames.detach().requires_grad_()
        with torch.enable_grad():
            self.logits = problem.run(self.leaf, self.tape)
        simulate.finish()
        if compare:
            for (layer, _), cut in self.tape.cuts.items():
                self.tape.look_at(layer, cut.currents)
        self.tape.built = True

    def pull(self, rule: Rule, grad: Tensor) -> Tensor:
        """
        :param rule: One of the chains.
        :param grad: Gradient at the logits `(b, K)`.
        :return: Gradient at the frames `(T, b, ...)`.
        :raises ValueError: If a layer's spikes reach a layer before it at a later step: a chain over all steps of the
            one has no place between the steps of the other.
        """
        self.tape.rule = rule
        with visiting(self.tape):  # checkpointed parts of the body run again
            if not self.tape.cuts:
                return vjp(self.logits, self.leaf, grad)
            return self._pull_through_cuts(grad)

    def _pull_through_cuts(self, grad: Tensor) -> Tensor:
        """Layer by layer from the last to the first, each over all its steps."""
        cuts = list(self.tape.cuts.items())
        leaves = [self.leaf, *(spikes for _, cut in cuts for spikes in cut.spikes)]
        for leaf in leaves:
            leaf.grad = None
        ends: tuple[list[Tensor], list[Tensor]] = ([self.logits], [grad])
        for index in reversed(range(len(cuts))):
            self._reach(*ends, leaves)
            self._check_crossed(cuts[index + 1 :])
            visit, cut = cuts[index]
            at_spikes = torch.stack([torch.zeros_like(s) if s.grad is None else s.grad for s in cut.spikes])
            at_currents = torch.empty_like(at_spikes)
            for block, crossed in crossings(self.tape, visit, cut.currents, at_spikes):
                at_currents[:, block] = crossed
            for spikes in cut.spikes:
                spikes.grad = None
            ends = (cut.inputs, list(at_currents))
        self._reach(*ends, leaves)
        self._check_crossed(cuts)
        found, self.leaf.grad = self.leaf.grad, None
        return torch.zeros_like(self.leaf) if found is None else found

    def _reach(self, outputs: list[Tensor], grads: list[Tensor], leaves: list[Tensor]) -> None:
        """From some ends of the graph down to the leaves of its pieces, where gradients add up."""
        reached = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if out.requires_grad]
        if reached:
            tensors, at_tensors = zip(*reached, strict=True)
            torch.autograd.backward(tensors, at_tensors, retain_graph=True, inputs=leaves)

    def _check_crossed(self, crossed: Sequence[tuple[Visit, Cut]]) -> None:
        back = [layer for (layer, _), cut in crossed if any(spikes.grad is not None for spikes in cut.spikes)]
        if back:
            raise ValueError(
                f"spikes of {named(self.problem, back[0])} reach a layer before it at a later step (a recurrent "
                "network): a backward chain cannot cross the one before the other."
            )
