"""Input normalisation as a layer, and the statistics for it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 32  # samples looked at at once, in float64: 80 MiB of frames of 128 x 128 in ten time steps


class Normalise(nn.Module):
    """(x - mean) / std by channel, inside the network so that attacks work on the data's own scale.

    :param mean: One number a channel.
    :param std: One number a channel, > 0.
    """

    #: What it gives for a sample is the same wherever in the batch that stands: see :class:`art_snn.SpikingNetwork`.
    timeless = True
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def normalisation(channels: int, mean: Sequence[float] | float, std: Sequence[float] | float) -> list[nn.Module]:
    """
    :param channels: Channels C of the input.
    :param mean: One number a channel, or one for all.
    :param std: One number a channel, or one for all; above 0.
    :return: A normalising layer, or nothing for the plain numbers 0 and 1.
    :raises ValueError: If they do not fit.
    """
    if isinstance(mean, Real) and mean == 0 and isinstance(std, Real) and std == 1:
        return []
    try:
        means, stds = (np.asarray(given, dtype=np.float32) for given in (mean, std))
    except (TypeError, ValueError):
        means = stds = np.array([np.nan])
    fits = all(given.shape in ((), (channels,)) for given in (means, stds))
    if not fits or not np.isfinite(means).all() or not (np.isfinite(stds).all() and (stds > 0).all()):
        raise ValueError(f"mean and std must have {channels} numbers, or one, std above 0, got {mean!r} and {std!r}.")
    return [Normalise(*(np.broadcast_to(given, channels).tolist() for given in (means, stds)))]


def channel_statistics(x: np.ndarray) -> tuple[list[float], list[float]]:
    """What normalises these inputs: they then have mean 0 and standard deviation 1 in every channel.

    :param x: Inputs `(N, C, H, W)`, or event frames `(N, T, P, H, W)`, whose channels are the polarities.
    :return: Mean and standard deviation by channel. Of a channel that is constant, as far as float32 can tell, the
        deviation is given as 1, so that the channel becomes 0.
    :raises ValueError: If there are no inputs.
    """
    if len(x) == 0:
        raise ValueError("x must hold at least one input, got none.")
    axes = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 3)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(x), CHUNK)]
    number = x.size / x.shape[-3]
    mean = sum(x[chunk].sum(axes, dtype=np.float64) for chunk in chunks) / number
    centre = mean[:, None, None]
    std = np.sqrt(sum(np.square(x[chunk] - centre).sum(axes) for chunk in chunks) / number)
    constant = std <= np.finfo(np.float32).eps * np.abs(mean)
    return mean.tolist(), np.where(constant, 1.0, std).tolist()
