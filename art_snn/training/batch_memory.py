"""How much memory a training step takes, before it is taken."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

#: Peak of a step, in units of what it keeps for its backward pass: the most that `benchmarks/memory.py` found.
PEAK = 1.75


class MemoryNeeded(ValueError):
    """A batch that does not fit into memory; the message suggests one that does."""


def bytes_per_sample(network: nn.Module, x: Tensor, y: Tensor) -> int:
    """Memory that a training step keeps for its backward pass, by sample, measured on a step with these samples.

    :param network: The network, in training mode; it is not changed.
    :param x: A few inputs `(N, *input_shape)`, N >= 2.
    :param y: Their labels `(N,)`.
    :return: Bytes.
    """
    network = copy.deepcopy(network)
    once, twice = (_kept(network, torch.cat([x] * n), torch.cat([y] * n)) for n in (1, 2))
    return (twice - once) // len(x)  # weights, which a batch keeps once, cancel out


def _kept(network: nn.Module, x: Tensor, y: Tensor) -> int:
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        nn.functional.cross_entropy(network(x), y)
    return sum(kept.values())


def check(network: nn.Module, x: Tensor, y: Tensor, batch_size: int, description: str) -> int:
    """
    :param network: The network, on its device.
    :param x: At least two inputs.
    :param y: Their labels.
    :param batch_size: Samples of one step, in this process.
    :param description: What is trained, for the message.
    :return: Bytes by sample.
    :raises MemoryNeeded: If a step cannot fit into the memory that is free now.
    """
    each = bytes_per_sample(network, x[:2], y[:2])
    # Gradients and momentum of the weights come on top.
    fixed = 2 * sum(p.numel() * p.element_size() for p in network.parameters())
    import psutil

    free = torch.cuda.mem_get_info(x.device)[0] if x.is_cuda else psutil.virtual_memory().available
    if fixed + each * batch_size > free:
        most = max(0, int((free - fixed) // (PEAK * each)))
        raise MemoryNeeded(
            f"a batch of {batch_size} of {description} needs at least {_gib(fixed + each * batch_size)} GiB "
            f"({each / 2**20:.1f} MiB a sample), {_gib(free)} GiB is free: "
            + (f"batch_size can be {most}." if most >= 2 else "lower time_steps or width.")
        )
    return each


def _gib(number: Any) -> str:
    return f"{number / 2**30:.1f}"
