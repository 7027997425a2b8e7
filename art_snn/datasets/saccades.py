"""Event data with nothing to download: the embedded digits, moved as in N-MNIST before a simulated event sensor.

A pixel of an event camera remembers the log intensity at its last event and fires an event as soon as the present one
differs from it by the contrast threshold C:

    p = 1  if  log I(t) - memory >= C,     p = 0  if  memory - log I(t) >= C,

whereupon its memory moves by C in that direction. The camera moves in three saccades of 100 ms, along the sides of an
isosceles triangle, as in N-MNIST (G. Orchard et al., Frontiers in Neuroscience 9:437, 2015).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from typing_extensions import Unpack

from art_snn.datasets.digits import CLASSES, load_images
from art_snn.datasets.frames import FrameSettings, check_framing, check_scale, event_frames, framed_dataset
from art_snn.datasets.samples import Choice, Dataset, Share, choose, one_hot, split
from art_snn.keywords import Keyword, spelled_out

#: An event as in `tonic.io.events_struct`; t in microseconds.
EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
SENSOR = 34  # height and width, in pixels
SCALE = 3  # sensor pixels for each pixel of a digit
CORNERS = np.array([[0.0, 0.0], [7.0, 3.5], [0.0, 7.0], [0.0, 0.0]])  # (y, x) of the camera, in sensor pixels
SACCADE = 100_000  # duration of a saccade, in microseconds
STEP = 5_000  # the intensity is computed this often, and taken as linear in log between
BLACK = 0.1  # intensity of black, where white is 1.1: its logarithm is finite
THRESHOLD = 0.5  # of the contrast, if none is given
CHUNK = 100  # images simulated at once


class EventDigits(FrameSettings, Choice, Share, total=False):
    """What `event_digits` takes."""

    threshold: Annotated[
        float,
        Keyword(
            THRESHOLD,
            "The sensor's contrast threshold C, in (0, 1]; the number of events goes as 1 / C. The default gives about "
            "as many as a recording of N-MNIST has.",
        ),
    ]


@spelled_out(size=(SENSOR, SENSOR))
def event_digits(**settings: Unpack[EventDigits]) -> Dataset:
    """
    The digits of `digits`, split alike, as seen by a simulated event camera in three saccades; nothing to download.

    :param settings: Which recordings are wanted, and as what frames.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, max`; x is `(N, T, 2, H, W)`, float32, the events of a frame,
             polarity (off, on) and pixel; y is one-hot, `(N, 10)`; max is the largest value in either x, or 1.0 if
             binary or scaled.
    :raises ValueError: If an argument is out of range.
    """
    sensor, bins, seed = (SENSOR, SENSOR), settings["bins"], settings["seed"]
    time_steps, size = settings["time_steps"], settings["size"]
    check_framing(time_steps, size, bins, sensor)
    check_scale(settings["scale"], settings["binary"])
    images, labels = load_images()
    parts = []
    for part in split(labels, settings["test_size"], seed, "event_digits"):
        rows = part[choose(labels[part], settings["limit"], seed)]
        recordings = simulate(images[rows, 0], threshold=settings["threshold"])
        frames = [event_frames(e, sensor=sensor, time_steps=time_steps, size=size, bins=bins) for e in recordings]
        parts.append((np.stack(frames), one_hot(labels[rows], CLASSES)))
    return framed_dataset(*parts, binary=settings["binary"], scale=settings["scale"])


def simulate(images: np.ndarray, *, threshold: float = THRESHOLD) -> list[np.ndarray]:
    """
    What the simulated event camera records of images in three saccades.

    :param images: Images `(N, 8, 8)` in [0, 1].
    :param threshold: The sensor's contrast threshold C, in (0, 1].
    :return: The events of every image in the order of time, as tonic's arrays: x, y, t in microseconds, p.
    :raises ValueError: If the threshold is out of range.
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must be in (0, 1], got {threshold!r}")
    recordings: list[np.ndarray] = []
    for start in range(0, len(images), CHUNK):
        recordings += _simulate_chunk(images[start : start + CHUNK], threshold)
    return recordings


def _simulate_chunk(images: np.ndarray, threshold: float) -> list[np.ndarray]:
    """The same for as many images as fit in memory."""
    rows, columns = _views(images.shape[-1])
    memory = before = _log_intensity(images, rows[0], columns[0])
    found = []
    for step in range(1, len(rows)):
        now = _log_intensity(images, rows[step], columns[step])
        change = now - before
        # Thresholds crossed, signed; none without a change, whatever rounding makes of a memory just moved.
        crossed = np.where(change == 0.0, 0.0, np.trunc((now - memory) / threshold)).astype(np.int64)
        pixel = np.repeat(np.flatnonzero(crossed), np.abs(crossed[crossed != 0]))
        sign = np.sign(crossed.ravel()[pixel])
        # A pixel's first crossing is at its memory plus C, the second at plus 2 C, ...
        first = np.searchsorted(pixel, pixel)
        level = memory.ravel()[pixel] + sign * threshold * (np.arange(len(pixel)) - first + 1)
        share = (level - before.ravel()[pixel]) / change.ravel()[pixel]
        time = np.rint((step - 1 + np.clip(share, 0.0, 1.0)) * STEP).astype(np.int64)
        found.append((pixel, time, sign > 0))
        memory = memory + crossed * threshold
        before = now
    pixel, time, grew = (np.concatenate(columns) for columns in zip(*found, strict=True))
    image, y, x = np.unravel_index(pixel, memory.shape)
    order = np.lexsort((time, image))
    events = np.empty(len(order), dtype=EVENT)
    for name, values in (("x", x), ("y", y), ("t", time), ("p", grew)):
        events[name] = values[order]
    return np.split(events, np.searchsorted(image[order], np.arange(1, len(images))))


def _views(length: int) -> tuple[np.ndarray, np.ndarray]:
    """
    How the sensor's rows and columns see those of an image at every step: weights `(steps, 34, length)` of linear
    interpolation, zero beyond the image.
    """
    times = np.arange(0, (len(CORNERS) - 1) * SACCADE + 1, STEP)
    corner_times = np.arange(len(CORNERS)) * SACCADE
    margin = (SENSOR - SCALE * length - CORNERS.max()) / 2
    views = []
    for axis in (0, 1):
        moved = np.interp(times, corner_times, CORNERS[:, axis])
        place = (np.arange(SENSOR) - margin - moved[:, None] + 0.5) / SCALE - 0.5  # in the image's own pixels
        views.append(np.maximum(0.0, 1.0 - np.abs(place[..., None] - np.arange(length))))
    return views[0], views[1]


def _log_intensity(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What the sensor's pixels see, `(N, 34, 34)`, in float64."""
    return np.log(BLACK + rows @ images.astype(np.float64) @ columns.T)
