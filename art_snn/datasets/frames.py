"""From the events of a recording to frames, the input of a network at each time step.

An event says that at time t the pixel (x, y) saw the light grow (p = 1) or fade (p = 0). A recording is cut into T
bins, and the events of a bin are counted for every pixel and polarity: one frame `(2, H, W)` a time step.

tonic has transforms for this. They are not used, because they do not count every event: `ToFrame` leaves out those
that fill no bin (up to T - 1 with bins of equal number, so a whole recording if it is shorter than T; the last ones
with bins of equal time), and its counters of 16 bits overflow unnoticed. Counting exactly takes the few lines below;
where bins of equal number come out even, they give the frames that tonic gives, as the tests check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from art_snn.datasets._common import Dataset, PathLike, Split, cached, check_positive, check_size

Bins = Literal["count", "time"]
LARGEST_COUNT = int(np.iinfo(np.uint16).max)


def event_frames(
    events: np.ndarray,
    *,
    sensor: tuple[int, int],
    time_steps: int = 10,
    size: tuple[int, int] | None = None,
    bins: Bins = "count",
) -> np.ndarray:
    """
    Count the events of a recording in T bins.

    :param events: Structured array `(E,)` with the fields x, y, t, p, as tonic reads them; E >= 1.
    :param sensor: Height and width of the sensor.
    :param time_steps: Number of bins T.
    :param size: Height and width of the frames, at most the sensor's: an event at (x, y) counts at
                 (x * width // sensor width, y * height // sensor height). None is the sensor's.
    :param bins: `"count"`: in the order of time, event k of E is in bin k * T // E, so that the bins' numbers of events
                 differ by one at most; `"time"`: T bins of equal duration, from the first event to the last.
    :return: Counts `(T, 2, H, W)`, uint16; channel 0 counts the events with p = 0, channel 1 those with p = 1.
    :raises ValueError: If there are no events, one lies outside the sensor, a count exceeds 65,535, or an argument is
                        out of range.
    """
    height, width = check_framing(time_steps, size, bins, sensor)
    if len(events) == 0:
        raise ValueError("the recording holds no events")
    x, y, t, polarity = (events[name].astype(np.int64) for name in ("x", "y", "t", "p"))
    for name, values, length in (("x", x, sensor[1]), ("y", y, sensor[0]), ("p", polarity, 2)):
        outside = values[(values < 0) | (values >= length)]
        if len(outside):
            raise ValueError(
                f"{len(outside)} of {len(values)} events have {name} outside 0 ... {length - 1}, such as {outside[0]}"
            )
    cell = _bin_of_events(t, time_steps, bins) * 2 + polarity
    cell = cell * height + y * height // sensor[0]
    cell = cell * width + x * width // sensor[1]
    counts = np.bincount(cell, minlength=time_steps * 2 * height * width)
    if counts.max() > LARGEST_COUNT:
        raise ValueError(f"{counts.max()} events in one pixel of one frame, more than {LARGEST_COUNT}")
    return counts.astype(np.uint16).reshape(time_steps, 2, height, width)


def _bin_of_events(t: np.ndarray, time_steps: int, bins: Bins) -> np.ndarray:
    """The bin of every event, `(E,)`, from the times of the events."""
    if bins == "time":
        elapsed = t - t.min()
        return elapsed * time_steps // (elapsed.max() + 1)
    place = np.empty(len(t), dtype=np.int64)
    place[np.argsort(t, kind="stable")] = np.arange(len(t))  # events are nearly always in order, but nobody promises
    return place * time_steps // len(t)


def check_framing(time_steps: int, size: tuple[int, int] | None, bins: str, sensor: tuple[int, int]) -> tuple[int, int]:
    """
    :param time_steps: Number of bins T.
    :param size: Height and width of the frames, or None for the sensor's.
    :param bins: How events are put in bins.
    :param sensor: Height and width of the sensor.
    :return: Height and width of the frames.
    :raises ValueError: If one of them is out of range.
    """
    check_positive("time_steps", time_steps)
    if bins not in ("count", "time"):
        raise ValueError(f"bins must be 'count' or 'time', got {bins!r}")
    height, width = check_size(sensor if size is None else size)
    if height > sensor[0] or width > sensor[1]:
        raise ValueError(f"size must be at most the sensor's {tuple(sensor)}, got {(height, width)}")
    return height, width


@dataclass(frozen=True)
class Framing:
    """How the recordings of one data set become frames."""

    #: Name of the data set, for its cache and progress bar.
    name: str
    #: From a file to its events; a file that is not a whole recording is a ValueError.
    read: Callable[[Path], np.ndarray]
    sensor: tuple[int, int]
    time_steps: int
    size: tuple[int, int]
    bins: Bins
    cache_dir: PathLike | None
    verbose: bool

    def __post_init__(self) -> None:
        check_framing(self.time_steps, self.size, self.bins, self.sensor)

    def frames(self, files: Sequence[Path], rows: np.ndarray, *, whole: bool) -> np.ndarray:
        """
        :param files: All recordings.
        :param rows: Which of them.
        :param whole: Put the frames of all in the cache, not only those of `rows`.
        :return: Their frames `(N, T, 2, H, W)`, uint16.
        :raises ValueError: If a file is not a whole recording of this sensor.
        """
        settings = {
            "name": self.name,
            "version": 1,
            "sensor": list(self.sensor),
            "time_steps": int(self.time_steps),
            "size": [int(length) for length in self.size],
            "bins": self.bins,
        }
        return cached(
            files,
            rows,
            self._frames_of,
            settings=settings,
            whole=whole,
            cache_dir=self.cache_dir,
            verbose=self.verbose,
        )

    def _frames_of(self, file: Path) -> np.ndarray:
        try:
            return event_frames(
                self.read(file), sensor=self.sensor, time_steps=self.time_steps, size=self.size, bins=self.bins
            )
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error


def framed_dataset(train: Split, test: Split, *, binary: bool) -> Dataset:
    """
    :param train: Counts `(N, T, 2, H, W)` and one-hot labels.
    :param test: The same of the test set.
    :param binary: Replace counts by 0 and 1.
    :return: The data set in ART's form, float32, with the largest count in it as its maximum.
    """
    largest = 1.0 if binary else float(max(train[0].max(), test[0].max()))
    (x_train, y_train), (x_test, y_test) = (
        ((counts > 0 if binary else counts).astype(np.float32), labels) for counts, labels in (train, test)
    )
    return (x_train, y_train), (x_test, y_test), 0.0, largest
