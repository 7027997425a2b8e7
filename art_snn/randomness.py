"""Random numbers of the package's own, for bodies that draw some: dropout that stays on, noise of a randomised defence.

Such a body takes torch's global generators. An attack must leave those alone, and must not see one frozen draw at every
gradient either: so they are exchanged for the network's own while it runs, which go on from pass to pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

#: States of generators by device.
States = dict[torch.device, Tensor]


def mixed_seed(*numbers: int) -> int:
    """A seed that follows from several numbers, such as a seed, an epoch and a step.

    A hash, because torch's CPU generator takes only the last 32 bits of its seed: sums and products of numbers that
    differ further up would give the same.

    :param numbers: The numbers.
    :return: A seed below 2^63.
    """
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 2**63


class Randomness:
    """Generators that take the place of torch's global ones.

    :param seed: What they begin with.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        #: How many blocks drew from them.
        self.draws = 0
        #: Where they stand; empty before the first use.
        self.states: States = {}

    def reseed(self, seed: int) -> None:
        """
        :param seed: What they begin with, anew.
        """
        self.seed, self.states = seed, {}

    def now(self) -> States:
        """
        :return: Where they stand, inside :meth:`in_force`, to draw once more what comes.
        """
        return {device: _state(device) for device in self.states}

    def go_back(self, to: States) -> None:
        """
        :param to: What :meth:`now` gave, inside :meth:`in_force`.
        """
        for device in to:
            self._begin(device, to)

    def moved(self, since: States) -> bool:
        """
        :param since: What :meth:`now` gave.
        :return: Whether something was drawn since.
        """
        return any(not torch.equal(_state(device), state) for device, state in since.items())

    @contextmanager
    def in_force(self, devices: Sequence[torch.device], states: States | None = None) -> Iterator[None]:
        """Inside the block, torch's global generators are these; afterwards they are what they were.

        :param devices: Devices whose generators are exchanged; the CPU's always is.
        :param states: Where to start, to draw once more what was drawn from there; where they stand when not given.
        """
        again, states = states is not None, self.states if states is None else states
        cuda = [device for device in devices if device.type == "cuda"]
        with torch.random.fork_rng(devices=cuda):
            begun = {device: self._begin(device, states) for device in (torch.device("cpu"), *cuda)}
            if not again:
                self.states = begun
            try:
                yield
            finally:
                if not again:
                    self.draws += self.moved(begun)
                    self.states = self.now()

    def _begin(self, device: torch.device, states: States) -> Tensor:
        state = states.get(device)
        if state is None:
            state = torch.Generator(device).manual_seed(mixed_seed(self.seed)).get_state()
        if device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
        return state


def _state(device: torch.device) -> Tensor:
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)
