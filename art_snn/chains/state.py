"""State of chains over the gradients of one attack: explicit, with `init` and `update`, aligned with the samples.

Like an optimiser's in optax, state is a value: a gradient reads the one before, and leaves a new one once it is pulled
back. Pulling the same forward pass back again reads the same and leaves the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from art_snn.neurons import SpikingLayer, State, Trace

#: A visit of a spiking layer: the layer, and how many visits in the same pass it had before.
Visit = tuple[SpikingLayer, int]

_running: ContextVar[tuple[Run, ...]] = ContextVar("art_snn_running", default=())
_noted: ContextVar[dict[tuple[int, int], Moment] | None] = ContextVar("art_snn_noted", default=None)


class Run:
    """The states of some chains over one attack on fixed samples; it begins with :meth:`BackwardChain.run`.

    :param chains: The chains.
    """

    def __init__(self, chains: Sequence[Any]) -> None:
        self.chains = list(chains)
        #: Number of samples, once it is known.
        self.samples: int | None = None
        self._rows: Tensor | None = None
        self._states: list[dict[Visit, State]] = [{} for _ in self.chains]
        self._known: list[dict[Visit, Tensor]] = [{} for _ in self.chains]

    def only(self, rows: Any) -> None:
        """From now on a batch holds some of the samples, such as those that an attack goes on with.

        :param rows: Their indices among the samples of the run, in the order of the batch; None for all of them.
        :raises ValueError: If a sample is none of the run's, or comes twice.
        """
        if rows is None:
            self._rows = None
            return
        rows = torch.as_tensor(rows).detach().cpu().long().reshape(-1)
        if self.samples is None:
            raise ValueError("rows are among the samples of a run's first gradient, which there was none of yet.")
        if len(rows.unique()) != len(rows) or (
            len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.samples
        ):
            raise ValueError(f"rows must be different samples of 0 to {self.samples - 1}, got {rows.tolist()}.")
        self._rows = rows

    def moment(self, place: int, batch: int) -> Moment:
        """
        :param place: Index of a chain.
        :param batch: Number of samples of the batch.
        :return: The chain's state now, for one gradient.
        :raises ValueError: If the batch is not of the run's samples.
        """
        if self.samples is None:
            self.samples = batch
        expected = self.samples if self._rows is None else len(self._rows)
        if batch != expected:
            raise ValueError(
                f"a run of {type(self.chains[place]).__name__} is at {expected} samples, got a batch of {batch}: a run "
                "belongs to one attack on fixed samples; if some have left the batch, say with run.only(rows) which "
                "are there."
            )
        rows = torch.arange(batch) if self._rows is None else self._rows
        return Moment(self, place, rows, dict(self._states[place]), dict(self._known[place]))

    def keep(self, place: int, rows: Tensor, after: dict[Visit, State]) -> None:
        """
        :param place: Index of a chain.
        :param rows: The samples of a gradient, `(B,)`.
        :param after: The states that it left, `(T, B, ...)` by visit.
        """
        states, known, samples = self._states[place], self._known[place], self.samples or len(rows)
        for visit, state in after.items():
            where = rows.to(state[0].device)
            whole = tuple(part.new_zeros(part.shape[0], samples, *part.shape[2:]) for part in state)
            seen = known.get(visit, torch.zeros(samples, dtype=torch.bool))
            # Never in place: a forward pass that is pulled back once more reads what was there before.
            states[visit] = tuple(
                old.index_copy(1, where, new) for old, new in zip(states.get(visit, whole), state, strict=True)
            )
            known[visit] = seen.index_fill(0, rows, True)


class Moment:
    """A chain's state at one gradient: what it reads, and what it will leave.

    :param run: The run, or None outside of any.
    :param place: Index of the chain in it.
    :param rows: Samples of the batch among the run's `(B,)`.
    :param states: States before, by visit, of all samples of the run.
    :param known: Of which samples there are any.
    """

    def __init__(
        self,
        run: Run | None = None,
        place: int = 0,
        rows: Tensor | None = None,
        states: dict[Visit, State] | None = None,
        known: dict[Visit, Tensor] | None = None,
    ) -> None:
        self.run, self.place, self.rows = run, place, rows
        self.states, self.known = states or {}, known or {}
        self.after: dict[Visit, State] = {}
        self.noted = _noted.get()  # now: a backward pass may run in a thread of its own

    def state(self, chain: Any, visit: Visit, trace: Trace, block: slice) -> State:
        """
        :param chain: The chain.
        :param visit: The visit of a spiking layer.
        :param trace: What the forward pass left of it, of some samples `(T, b, ...)`.
        :param block: Which samples of the batch those are.
        :return: The chain's state of this gradient; it is noted.
        :raises ValueError: If it has other shapes than before, or than it should.
        """
        state = chain.init(trace)
        name = type(chain).__name__
        samples = trace.spikes.shape[1]
        if not isinstance(state, tuple) or not all(
            isinstance(part, Tensor) and part.dim() >= 2 and part.shape[1] == samples for part in state
        ):
            raise ValueError(
                f"{name}.init must give a tuple of tensors (T, B, ...) or (1, B, ...), here B = {samples}."
            )
        if self.run is None or self.rows is None:
            return chain.update(state, trace)
        rows = self.rows[block]
        before = self.states.get(visit)
        if before is not None:
            if [_form(part) for part in before] != [_form(part) for part in state]:
                raise ValueError(
                    f"a run of {name} goes on with a network or input of other shapes: its state is "
                    f"{[_form(part) for part in before]}, now it would be {[_form(part) for part in state]}."
                )
            where = rows.to(trace.spikes.device)
            known = self.known[visit][rows].to(where.device)
            state = tuple(
                torch.where(known.view(1, -1, *[1] * (new.dim() - 2)), old.index_select(1, where), new)
                for old, new in zip(before, state, strict=True)
            )
        updated = chain.update(state, trace)
        if visit not in self.after:
            batch = len(self.rows)
            self.after[visit] = tuple(part.new_empty(part.shape[0], batch, *part.shape[2:]) for part in updated)
        for whole, part in zip(self.after[visit], updated, strict=True):
            whole[:, block] = part
        return updated

    def leave(self) -> None:
        """The gradient was pulled back: what it noted is the state from now on; of several over noise, the first's."""
        if self.run is None or self.rows is None:
            return
        if self.noted is None:
            self.run.keep(self.place, self.rows, self.after)
        else:
            self.noted.setdefault((id(self.run), self.place), self)


def moment_of(chain: Any, batch: int) -> Moment | None:
    """
    :param chain: A chain.
    :param batch: Number of samples of the batch.
    :return: Its state now, for one gradient; None if it has none.
    :raises ValueError: If a run of it is under way on other samples.
    """
    if not chain.has_state:
        return None
    for run in reversed(_running.get()):
        if chain in run.chains:
            return run.moment(run.chains.index(chain), batch)
    return Moment()


@contextmanager
def running(chains: Sequence[Any]) -> Iterator[Run]:
    """
    :param chains: Chains with state.
    :return: Their run, inside the block.
    """
    run = Run(chains)
    token = _running.set((*_running.get(), run))
    try:
        yield run
    finally:
        _running.reset(token)


@contextmanager
def one_gradient() -> Iterator[None]:
    """Inside the block all gradients are draws of one, over noise: they read one state, and the first leaves it."""
    noted: dict[tuple[int, int], Moment] = {}
    token = _noted.set(noted)
    try:
        yield
    finally:
        _noted.reset(token)
    for moment in noted.values():
        moment.noted = None
        moment.leave()


def _form(part: Tensor) -> tuple[int, ...]:
    return (part.shape[0], *part.shape[2:])
