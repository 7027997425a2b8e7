"""From the events of a recording to frames, the input of a network at each time step.

An event says that at time t the pixel (x, y) saw the light grow (p = 1) or fade (p = 0). A recording is cut into T
bins, and the events of a bin are counted for every pixel and polarity: one frame `(2, H, W)` a time step.

tonic has transforms for this. They are not used, because they do not count every event: `ToFrame` leaves out those
that fill no bin (up to T - 1 with bins of equal number, so a whole recording if it is shorter than T; the last ones
with bins of equal time), and its counters of 16 bits overflow unnoticed. Counting exactly takes the few lines below;
where bins of equal number come out even, they give the frames that tonic gives, as the tests check.

A frame of another size than the sensor weighs no row and no column of the sensor differently. By height and by width,
with S pixels of the sensor and F of the frame:

- close, |S - F| <= S / 16: the middle of the sensor, or the sensor with empty pixels around it. The frames are those
  of a sensor of that size; events beside it do not count.
- F < S otherwise: pixel i of the frame covers the sensor from i S / F to (i + 1) S / F, and an event is shared out by
  how much of its pixel each of them covers. Every event weighs 1 in all. Where F divides S that is a sum over blocks;
  elsewhere frames hold fractions.
- F > S otherwise is refused: it would hold nothing that the sensor did not see.

Only binary frames cannot be fair where they would hold fractions: a pixel that covers parts of four rows of the sensor
sees more events than one that covers parts of three.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np

from art_snn.datasets.cache import Stored, cached
from art_snn.datasets.checks import check_positive, check_size
from art_snn.datasets.samples import Choice, Dataset, Split, choose, one_hot
from art_snn.datasets.sources import Download
from art_snn.keywords import NO_DEFAULT, Keyword

logger = logging.getLogger(__name__)

Bins = Literal["count", "time"]
#: Divide frames by this number, or by the largest value in them.
Scale = float | Literal["max"]
LARGEST_COUNT = int(np.iinfo(np.uint16).max)
#: Frame and sensor are close if they differ by at most this part of the sensor: 2 of 34 pixels, 8 of 128.
CLOSE = 16
#: How many files a warning names.
NAMED = 5


class FrameSettings(TypedDict, total=False):
    """What every loader of event data takes."""

    time_steps: Annotated[int, Keyword(10, "Number of frames T of a recording.")]
    size: Annotated[
        tuple[int, int],
        Keyword(
            NO_DEFAULT,  # each data set has its own
            "Height and width of the frames, at most a sixteenth above the sensor's. Lengths close to the sensor's "
            "crop or pad, smaller ones share events out by area: see :mod:`art_snn.datasets.frames`.",
        ),
    ]
    bins: Annotated[
        Bins,
        Keyword("count", '`"count"` for frames of equal numbers of events, `"time"` for frames of equal duration.'),
    ]
    binary: Annotated[
        bool, Keyword(False, "Frames of 0 and 1 (did any part of an event fall on the pixel?) instead of counts.")
    ]
    scale: Annotated[
        Scale | None,
        Keyword(
            None,
            "Divide all frames by this number, which no value may exceed, so that they lie in [0, 1]; "
            '`"max"` is the largest value in either x, which depends on what is loaded, so on the limit. None leaves '
            "counts.",
        ),
    ]


class Recordings(FrameSettings, Choice, Stored, Download, total=False):
    """What every loader of recorded event data takes."""

    drop_outside: Annotated[
        bool,
        Keyword(
            False,
            "Leave out events outside the sensor, and say on the logger how many of which files, instead of refusing "
            "the recording.",
        ),
    ]


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
    :param size: Height and width of the frames; None is the sensor's. A length that differs from the sensor's by at
                 most a sixteenth of it crops or pads, events beside the frame being left out before anything is
                 counted; a smaller one shares an event out by the overlap of its pixel with the frame's.
    :param bins: `"count"`: in the order of time, event k of E is in bin k * T // E, so that the bins' numbers of events
                 differ by one at most; `"time"`: T bins of equal duration, from the first event to the last.
    :return: Frames `(T, 2, H, W)`; channel 0 has the events with p = 0, channel 1 those with p = 1, and the values of a
             frame add up to its number of events. Counts, uint16, if height and width each crop, pad or divide the
             sensor's; otherwise fractions, float32.
    :raises ValueError: If there are no events, one lies outside the sensor, a count exceeds 65,535, or an argument is
                        out of range.
    """
    wanted = check_framing(time_steps, size, bins, sensor)
    if len(events) == 0:
        raise ValueError("the recording holds no events")
    x, y, t, polarity = (events[name].astype(np.int64) for name in ("x", "y", "t", "p"))
    for name, values, length in (("x", x, sensor[1]), ("y", y, sensor[0]), ("p", polarity, 2)):
        outside = values[(values < 0) | (values >= length)]
        if len(outside):
            raise ValueError(
                f"{len(outside)} of {len(values)} events have {name} outside 0 ... {length - 1}, such as {outside[0]}"
            )
    (y, height), (x, width) = (_on_grid(*axis) for axis in zip((y, x), sensor, wanted, strict=True))
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    if not inside.any():
        raise ValueError(f"the recording holds no events in the middle {wanted[0]} x {wanted[1]} pixels")
    cell = _bin_of_events(t[inside], time_steps, bins) * 2 + polarity[inside]
    cell = (cell * height + y[inside]) * width + x[inside]
    counts = np.bincount(cell, minlength=time_steps * 2 * height * width).reshape(time_steps, 2, height, width)
    if (height, width) != wanted:
        return (_shares(height, wanted[0]) @ counts @ _shares(width, wanted[1]).T).astype(np.float32)
    if counts.max() > LARGEST_COUNT:
        raise ValueError(f"{counts.max()} events in one pixel of one frame, more than {LARGEST_COUNT}")
    return counts.astype(np.uint16)


def _on_grid(place: np.ndarray, sensor: int, frame: int) -> tuple[np.ndarray, int]:
    """Where events are counted along one axis, and how many pixels it has: the frame's, or else still the sensor's."""
    if _close(sensor, frame):
        return place - (sensor - frame) // 2, frame
    if sensor % frame == 0:
        return place * frame // sensor, frame
    return place, sensor


def _close(sensor: int, frame: int) -> bool:
    """Whether a frame crops or pads the sensor along one axis."""
    return abs(sensor - frame) <= sensor // CLOSE


def _shares(sensor: int, frame: int) -> np.ndarray:
    """What each pixel of a frame gets of an event in each of the sensor's, along one axis: `(frame, sensor)`."""
    i, j = np.arange(frame)[:, None], np.arange(sensor)
    # In units of 1 / frame of a sensor pixel the borders are whole numbers.
    overlap = np.minimum((i + 1) * sensor, (j + 1) * frame) - np.maximum(i * sensor, j * frame)
    return np.maximum(overlap, 0) / frame


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
    most = tuple(length + length // CLOSE for length in sensor)
    if height > most[0] or width > most[1]:
        raise ValueError(f"size must be at most {most}, for a sensor of {tuple(sensor)}, got {(height, width)}")
    return height, width


def check_scale(scale: Scale | None, binary: bool = False) -> None:
    """
    :param scale: What frames are divided by.
    :param binary: Whether frames are 0 and 1.
    :raises ValueError: If frames cannot be divided by it.
    """
    if scale is None:
        return
    if binary:
        raise ValueError(f"scale belongs to counts, got {scale!r}; binary frames are 0 and 1 already")
    number = isinstance(scale, Real) and not isinstance(scale, bool) and 0.0 < scale < float("inf")
    if not number and not (isinstance(scale, str) and scale == "max"):
        raise ValueError(f"scale must be 'max' or a number above 0, got {scale!r}")


@dataclass(frozen=True)
class Framing:
    """How the recordings of one data set become frames, and the frames a data set."""

    #: Name of the data set, for its cache and progress bar.
    name: str
    #: From a file to its events; a file that is not a whole recording is a ValueError.
    read: Callable[[Path], np.ndarray]
    sensor: tuple[int, int]
    nb_classes: int
    settings: Recordings

    def __post_init__(self) -> None:
        check_framing(self.settings["time_steps"], self.settings["size"], self.settings["bins"], self.sensor)
        check_scale(self.settings["scale"], self.settings["binary"])

    def part(self, files: Sequence[Path], labels: np.ndarray, among: np.ndarray | None = None) -> Split:
        """
        :param files: All recordings.
        :param labels: Their labels `(N,)`, integers.
        :param among: Indices of those that belong to this part of the data set; all if not given.
        :return: Frames `(N, T, 2, H, W)` and one-hot labels of the recordings wanted of them.
        """
        among = np.arange(len(labels)) if among is None else among
        rows = among[choose(labels[among], self.settings["limit"], self.settings["seed"])]
        return self.frames(files, rows, whole=self.settings["limit"] is None), one_hot(labels[rows], self.nb_classes)

    def frames(self, files: Sequence[Path], rows: np.ndarray, *, whole: bool) -> np.ndarray:
        """
        :param files: All recordings.
        :param rows: Which of them.
        :param whole: Put the frames of all in the cache, not only those of `rows`.
        :return: Their frames `(N, T, 2, H, W)`, uint16 or float32.
        :raises ValueError: If a file is not a whole recording of this sensor.
        """
        settings = {
            "name": self.name,
            "version": 2,
            "sensor": list(self.sensor),
            "time_steps": int(self.settings["time_steps"]),
            "size": [int(length) for length in self.settings["size"]],
            "bins": self.settings["bins"],
            "drop_outside": bool(self.settings["drop_outside"]),
        }
        dropped: dict[str, Any] = {}  # of each file that had any: events outside the sensor, and events in all
        frames = cached(
            files,
            rows,
            partial(self._frames_of, dropped=dropped),
            settings=settings,
            whole=whole,
            cache_dir=self.settings["cache_dir"],
            verbose=self.settings["verbose"],
            notes=dropped,
        )
        wanted = [os.path.abspath(files[row]) for row in rows]
        self._report({file: dropped[file] for file in wanted if file in dropped}, len(wanted))
        return frames

    def dataset(self, train: Split, test: Split) -> Dataset:
        """
        :param train: Frames `(N, T, 2, H, W)` and one-hot labels.
        :param test: The same of the test set.
        :return: The data set in ART's form, as :func:`framed_dataset` makes it.
        """
        return framed_dataset(train, test, binary=self.settings["binary"], scale=self.settings["scale"])

    def _frames_of(self, file: Path, dropped: dict[str, Any]) -> np.ndarray:
        advice = ""
        try:
            events = self.read(file)
            inside = _on_sensor(events, self.sensor)
            if not inside.all():
                if self.settings["drop_outside"]:
                    dropped[os.path.abspath(file)] = [int((~inside).sum()), len(events)]
                    events = events[inside]
                else:
                    advice = "; drop_outside=True (art-snn train --drop-outside) leaves such events out"
            return event_frames(
                events,
                sensor=self.sensor,
                time_steps=self.settings["time_steps"],
                size=self.settings["size"],
                bins=self.settings["bins"],
            )
        except ValueError as error:
            raise ValueError(f"{file}: {error}{advice}") from error

    def _report(self, dropped: dict[str, Any], number: int) -> None:
        if not dropped:
            return
        worst = sorted(dropped, key=lambda file: -dropped[file][0])
        named = ", ".join(f"{file} ({dropped[file][0]} of {dropped[file][1]})" for file in worst[:NAMED])
        logger.warning(
            "%s: %d events outside the sensor's %d x %d pixels left out, in %d of %d recordings: %s%s",
            self.name,
            sum(outside for outside, _ in dropped.values()),
            *self.sensor,
            len(dropped),
            number,
            named,
            f" and {len(worst) - NAMED} more" if len(worst) > NAMED else "",
        )


def _on_sensor(events: np.ndarray, sensor: tuple[int, int]) -> np.ndarray:
    """Which events have a pixel of the sensor. A polarity is none or all of them wrong, and stays an error."""
    x, y = events["x"], events["y"]
    return (x >= 0) & (x < sensor[1]) & (y >= 0) & (y < sensor[0])


def framed_dataset(train: Split, test: Split, *, binary: bool, scale: Scale | None) -> Dataset:
    """
    :param train: Frames `(N, T, 2, H, W)` and one-hot labels.
    :param test: The same of the test set.
    :param binary: Replace what is above 0 by 1.
    :param scale: Divide all frames by this number, `"max"` being the largest value in either set.
    :return: The data set in ART's form, float32, with the largest value in it as its maximum; 1.0 if binary or scaled.
    :raises ValueError: If a frame has a value above the scale.
    """
    check_scale(scale, binary)
    x_train, x_test = ((x > 0 if binary else x).astype(np.float32) for x, _ in (train, test))
    largest = 1.0 if binary else float(max(x_train.max(), x_test.max()))
    if scale is not None:
        divide(x_train, x_test, largest, scale)
        largest = 1.0
    return (x_train, train[1]), (x_test, test[1]), 0.0, largest


def divide(x_train: np.ndarray, x_test: np.ndarray, largest: float, scale: Scale) -> float:
    """
    Divide all frames by one number, in place, so that they lie in [0, 1].

    :param x_train: Frames, float32.
    :param x_test: The same of the test set.
    :param largest: The largest value in either.
    :param scale: The number; `"max"` is `largest`.
    :return: The number.
    :raises ValueError: If it is below the largest value.
    """
    number = largest if scale == "max" else float(np.float32(scale))
    if largest > number:
        raise ValueError(f"scale must be at least the largest value of a frame, {largest:g}, got {number:g}")
    for x in (x_train, x_test):
        x /= number
    logger.info("frames divided by %.9g", number)
    return number
