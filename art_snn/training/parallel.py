"""Several processes, one training run: started by torchrun, each takes its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Processes(NamedTuple):
    """This process among those of the run."""

    rank: int
    number: int
    local_rank: int

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes, evaluates and reports."""
        return self.rank == 0

    @property
    def leads_machine(self) -> bool:
        """Whether it is the first on its machine."""
        return self.local_rank == 0

    def agree(self, value: Any) -> bool:
        """
        :param value: A plain value.
        :return: Whether it is the same in all processes.
        """
        if self.number == 1:
            return True
        values: list[Any] = [None] * self.number
        dist.all_gather_object(values, value)
        return all(other == value for other in values)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Have the leading process run the block, then the first process of every machine, then the others."""
        turn = 0 if self.leads else 1 if self.leads_machine else 2
        for _ in range(turn if self.number > 1 else 0):
            dist.barrier()
        yield
        for _ in range(2 - turn if self.number > 1 else 0):
            dist.barrier()


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    :param device: `"cpu"` or `"gpu"`.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, 0)
        return
    local = int(os.environ["LOCAL_RANK"])
    if device == "gpu":
        torch.cuda.set_device(local)
    # The others wait while the first evaluates; how long that takes is the user's choice of samples.
    dist.init_process_group("nccl" if device == "gpu" else "gloo", timeout=timedelta(hours=12))
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


def synchronised(network: nn.Module) -> nn.Module:
    """Have batch norms take their statistics over all processes, so that the batch is the whole one.

    :param network: The network; its layers are replaced.
    :return: The network.
    """
    if next(network.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, _SyncBatchNorm.like(child))
    return network


class _SyncBatchNorm(_BatchNorm):
    """Batch norm over all processes on CPUs, which torch's own `SyncBatchNorm` does not run on."""

    @classmethod
    def like(cls, module: _BatchNorm) -> _SyncBatchNorm:
        twin = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        twin._parameters, twin._buffers, twin.training = module._parameters, module._buffers, module.training
        return twin

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        given, x = x.dtype, x.to(self.weight.dtype)  # under autocast the input is in half precision
        dims = [dim for dim in range(x.dim()) if dim != 1]
        mean = _mean(x.mean(dims))
        centred = x - _channels(mean, x)
        variance = _mean(centred.square().mean(dims))
        self._note(mean, variance, x.numel() // x.shape[1] * dist.get_world_size())
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * _channels(scale, x) + _channels(self.bias, x)).to(given)

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def _mean(x: Tensor) -> Tensor:
    """Mean over the processes, each of which has equally many samples; differentiable."""
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(x) / dist.get_world_size()


def _channels(x: Tensor, like: Tensor) -> Tensor:
    return x.reshape(1, -1, *([1] * (like.dim() - 2)))
