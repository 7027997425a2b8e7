"""What a backward chain is: the rule by which a gradient crosses a spiking layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from torch import Tensor

from art_snn.chains.state import Run, running
from art_snn.neurons import State, Trace, Value
from art_snn.surrogates import Surrogate, Triangle, chosen


class BackwardChain:
    """The rule by which a gradient crosses a spiking layer.

    A subclass gives `backward`, its definition over all T steps. If the rule's factor is the same at every step (the
    paper's pre-calculation property), it also gives `gain`, and the backward pass collapses over time.

    A chain that keeps something of the gradients before, such as running means, gives `init` and `update`, and finds it
    in `trace.state`. That state belongs to one attack on fixed samples, see :meth:`~art_snn.chains.BackwardChain.run`.
    """

    #: Whether it is the gradient of the network's own autograd, which crosses no spiking layer by a rule.
    is_native = False

    def backward(self, grad_spikes: Tensor, trace: Trace) -> Tensor:
        """
        :param grad_spikes: Gradient at the spikes, g(t), shape `(T, B, ...)`. Only read.
        :param trace: What the forward pass left of the layer.
        :return: Gradient at the currents, shape `(T, B, ...)`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no backward(grad_spikes, trace)")

    def gain(self, trace: Trace) -> Tensor:
        """
        :param trace: What the forward pass left of the layer.
        :return: The factor by which a gradient that is the same at every step crosses each neuron, shape `(B, ...)`.
        :raises NoGain: If on these neurons the factor is not the same at every step: there `backward` is followed.
        """
        raise NotImplementedError(f"{type(self).__name__} has no time-independent gain")

    def init(self, trace: Trace) -> State:
        """
        :param trace: What a forward pass left of a layer.
        :return: The state before the first gradient: tensors `(T, B, ...)`, or `(1, B, ...)` of what has no time steps.
        """
        return ()

    def update(self, state: State, trace: Trace) -> State:
        """
        :param state: The state after the gradient before. Only read.
        :param trace: What the forward pass left of the layer.
        :return: The state of this gradient, of the same shapes, which `backward` and `gain` find in `trace.state`.
        """
        return state

    @property
    def has_state(self) -> bool:
        """Whether it keeps something from gradient to gradient."""
        return type(self).init is not BackwardChain.init

    @contextmanager
    def run(self) -> Iterator[Run]:
        """One attack on fixed samples: inside the block the chain's state goes on from gradient to gradient.

        The first gradient inside says how many samples there are, and their order; of a later batch that holds only
        some of them, say which with `only` of what the block gives. Outside of a run every gradient is the first of
        one. Runs do not nest: the innermost of a chain, or of a chain equal to it, counts.
        """
        with running([part for _, part in self.parts() if part.has_state]) as run:
            yield run

    @property
    def has_gain(self) -> bool:
        """Whether the chain collapses over time: a gain belongs to the definition it came with, or to one below it."""
        defined = next(kind for kind in type(self).__mro__ if "backward" in vars(kind) or "gain" in vars(kind))
        return "gain" in vars(defined) and defined is not BackwardChain

    @property
    def has_activation(self) -> bool:
        """Whether it follows no simulation, but differentiates an activation network."""
        return type(self).activation is not BackwardChain.activation

    @property
    def stands_apart(self) -> bool:
        """Whether it follows no simulation, but has a forward pass of its own, so that no other can share it."""
        return self.has_activation or self.is_native

    def activation(self, currents: Tensor, threshold: Value) -> Tensor:
        """
        :param currents: Input of a spiking layer in the activation network, shape `(B, ...)`.
        :param threshold: Its firing threshold θ, a number or a tensor that broadcasts against the currents.
        :return: Its output there, shape `(B, ...)`, differentiable by the chain's rule.
        """
        raise NotImplementedError(f"{type(self).__name__} has no activation network")

    def parts(self) -> Iterator[tuple[float, BackwardChain]]:
        """
        :return: The weighted chains this one is a sum of: itself, unless it is a mixture.
        """
        yield 1.0, self


@dataclass(frozen=True, init=False, repr=False)
class SurrogateChain(BackwardChain):
    """A chain with a surrogate gradient.

    :param gamma: Half-width γ > 0 of the triangle of Eq. 15; 1 if nothing is given.
    :param surrogate: Another surrogate gradient instead.
    :raises ValueError: If both are given, or one is out of its range.
    """

    surrogate: Surrogate

    def __init__(self, gamma: float | None = None, *, surrogate: Surrogate | None = None) -> None:
        object.__setattr__(self, "surrogate", chosen(gamma, surrogate))

    @property
    def gamma(self) -> float | None:
        """Half-width γ of its triangle; None with another surrogate."""
        return self.surrogate.gamma if isinstance(self.surrogate, Triangle) else None

    def __repr__(self) -> str:
        given = f"surrogate={self.surrogate!r}" if self.gamma is None else f"gamma={self.gamma!r}"
        more = "".join(
            f", {each.name}={value!r}"
            for each in fields(self)
            if each.name != "surrogate" and (value := getattr(self, each.name)) != each.default
        )
        return f"{type(self).__name__}({given}{more})"


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """
    :param values: A number for each sample, `(1, B)`, as a state without time steps has it.
    :param like: `(T, B, ...)`.
    :return: The numbers, so that they broadcast against it.
    """
    return values.view(1, -1, *[1] * (like.dim() - 2))
