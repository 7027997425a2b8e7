"""The data of a training run: what is learned, what is held out, and how a batch is cropped and flipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_snn import identity
from art_snn.datasets.frames import divide
from art_snn.datasets.table import DATASETS
from art_snn.training.settings import TrainSettings


class MissingData(FileNotFoundError):
    """A data set that is not where `root` says."""


@dataclass(frozen=True)
class Data:
    """A data set in parts, inputs `(N, *input_shape)` and integer labels `(N,)`.

    :param learned: Training samples.
    :param held_out: Training samples that are not learned.
    :param test: Test samples.
    :param nb_classes: Number of classes K.
    :param clip_values: Smallest and largest value of an input.
    :param scale: What event frames were divided by, if they were.
    :param identity: Digests of the data set's arrays, and of the indices of the three parts in them.
    """

    learned: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    nb_classes: int
    clip_values: tuple[float, float]
    scale: float | None = None
    identity: dict[str, str] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.test[0].shape[1:]


def load(settings: TrainSettings, *, verbose: bool = False, download: bool = False) -> Data:
    """
    :param settings: What is trained on what.
    :param verbose: Whether decoding shows its progress.
    :param download: Whether to download the data set if it is not there.
    :return: The data.
    :raises MissingData: If the data set is not there.
    :raises OSError: If it cannot be downloaded.
    :raises ValueError: If its files are not what they should be, there is too little to hold out, or nothing that could
        be downloaded.
    """
    from sklearn.model_selection import train_test_split

    entry = DATASETS[settings.data]
    if download and "download" not in entry.takes:
        raise ValueError(f"download belongs to data sets with an archive to download; data is {settings.data!r}.")
    options: dict[str, Any] = {"limit": settings.limit, "seed": settings.data_seed}
    if entry.events:
        options["time_steps"] = settings.time_steps
    if (size := settings.size or entry.size) is not None:
        options["size"] = size
    if "verbose" in entry.takes:
        options["verbose"] = verbose
    if settings.drop_outside:
        options["drop_outside"] = True
    if download:
        options["download"] = True
    arguments = [] if entry.embedded else [settings.root]
    try:
        (x, y), (x_test, y_test), low, high = entry.load(*arguments, **options)
    except FileNotFoundError as error:
        raise MissingData(f"root {settings.root} does not hold {settings.data}: {error}") from None
    scale = None
    if settings.scale is not None:  # as the loaders do, which do not say by what
        scale, high = divide(x, x_test, high, settings.scale), 1.0
    labels = y.argmax(1)
    try:
        learned, held_out = train_test_split(
            np.arange(len(x)), test_size=settings.held_out, stratify=labels, random_state=settings.data_seed
        )
    except ValueError as error:
        raise ValueError(f"held_out={settings.held_out} of {len(x)} training samples: {error}") from None
    if len(learned) < settings.batch_size:
        raise ValueError(
            f"batch_size must be at most the number of training samples, {len(learned)}, got {settings.batch_size}."
        )
    order = np.random.default_rng(settings.data_seed).permutation(len(x_test))  # some data sets are sorted by class
    return Data(
        (x[learned], labels[learned]),
        (x[held_out], labels[held_out]),
        (x_test[order], y_test.argmax(1)[order]),
        y.shape[1],
        (float(low), float(high)),
        scale,
        {
            "training_arrays": identity.of_arrays(x, y),
            "test_arrays": identity.of_arrays(x_test, y_test),
            "learned": identity.of_arrays(learned),
            "held_out": identity.of_arrays(held_out),
            "test": identity.of_arrays(order),
        },
    )


def batches(
    settings: TrainSettings, data: Data, epoch: int, *, first: int = 0, rank: int = 0, processes: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch's batches, which seed and epoch decide: the same whether the run was interrupted or not.

    :param settings: What is trained.
    :param data: The data.
    :param epoch: Index of the epoch.
    :param first: Index of the first batch wanted.
    :param rank: Index of this process.
    :param processes: Number of processes; each gets an equal part of every batch.
    :return: Inputs `(N, *input_shape)` and labels `(N,)`; samples that fill no whole batch are left to other epochs.
    """
    x, y = data.learned
    # The CPU's generator takes 32 bits: a sum gives each of a run's epochs others of them, a hash could meet twice.
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    order = torch.randperm(len(x), generator=generator)
    entry = DATASETS[settings.data]
    padding, flips = (entry.padding, entry.flips) if settings.augment else (0, False)
    for start in range(0, len(x) - settings.batch_size + 1, settings.batch_size):
        rows = order[start : start + settings.batch_size]
        shifts = torch.randint(0, 2 * padding + 1, (len(rows), 2), generator=generator)
        flipped = torch.rand(len(rows), generator=generator) < (0.5 if flips else 0.0)
        if start < first * settings.batch_size:
            continue
        part = slice(rank, None, processes)
        own = rows[part].numpy()
        yield (
            moved(torch.from_numpy(np.ascontiguousarray(x[own])), padding, shifts[part], flipped[part]),
            torch.from_numpy(y[own]),
        )


def moved(x: Tensor, padding: int, shifts: Tensor, flipped: Tensor) -> Tensor:
    """Crop each sample out of a frame of zeros around it, and mirror some.

    :param x: Inputs `(N, ..., H, W)`; all frames of a recording move together.
    :param padding: Width of the frame, in pixels.
    :param shifts: Upper left corner `(N, 2)` of each crop, from 0 to `2 padding`.
    :param flipped: Which samples are mirrored, left to right, `(N,)`.
    :return: Inputs of the same shape.
    """
    height, width = x.shape[-2:]
    frames = torch.nn.functional.pad(x.flatten(1, -3), (padding,) * 4)
    rows = shifts[:, :1] + torch.arange(height)
    columns = shifts[:, 1:] + torch.arange(width)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    sample = torch.arange(len(x))[:, None, None, None]
    channel = torch.arange(frames.shape[1])[None, :, None, None]
    return frames[sample, channel, rows[:, None, :, None], columns[:, None, None, :]].reshape(x.shape)
