"""Event-camera data sets in the layouts and file formats of tonic: N-MNIST, CIFAR10-DVS and DVS128 Gesture.

tonic's own readers read the files. Its data set classes are asked to download, and for nothing else: they take only a
data set that is complete and lies beside the archives it came in, and number classes by parts of folder names
without a check. So the files are listed here, and any part of a data set in its own layout will do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from art_snn.datasets.frames import Framing, Recordings
from art_snn.datasets.samples import Dataset, Share, split
from art_snn.datasets.sources import PathLike, downloading, optional, visible
from art_snn.keywords import spelled_out

logger = logging.getLogger(__name__)

DIGIT_NAMES = tuple(str(digit) for digit in range(10))
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GESTURES = 11
#: What tonic's downloads leave beside the folders that they unpack.
ARCHIVES = (".zip", ".gz")
#: Wide fields, so that a bad value is still itself when it is checked.
READ = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])


class SplitRecordings(Recordings, Share, total=False):
    """What a loader of recordings takes whose data set comes without a split."""


@spelled_out(size=(34, 34))
def nmnist(root: PathLike, **settings: Unpack[Recordings]) -> Dataset:
    """
    N-MNIST: the MNIST digits before an event camera (34 x 34) that moves in three saccades; 60,000 training and 10,000
    test recordings of 10 classes, or any part of them in the same layout. Without a limit they are sorted by class.

    Source: G. Orchard, A. Jayawant, G. K. Cohen and N. Thakor, Converting static image datasets to spiking
    neuromorphic datasets using saccades, Frontiers in Neuroscience 9:437, 2015
    (https://www.garrickorchard.com/datasets/n-mnist).

    :param root: Folder that holds `NMNIST/Train/<digit>/<number>.bin` and `NMNIST/Test/...`, or that `NMNIST` itself.
    :param settings: Which recordings are wanted, and as what frames.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, max`; x is `(N, T, 2, H, W)`, float32, the events of a frame,
             polarity (off, on) and pixel; y is one-hot, `(N, 10)`; max is the largest value in either x, or 1.0 if
             binary or scaled.
    :raises FileNotFoundError: If a folder is missing or empty.
    :raises ValueError: If a file is not a whole recording of this sensor, a folder is not a class, or an argument is
                        out of range.
    """
    framing = Framing("nmnist", _read_bin, (34, 34), len(DIGIT_NAMES), settings)
    if settings["download"]:
        with downloading("N-MNIST", root):
            for train in (True, False):
                optional("tonic.datasets", "events").NMNIST(save_to=str(root), train=train)
    folder = _find(
        Path(root),
        "NMNIST",
        ("Train", "Test"),
        "Download Train.zip and Test.zip from https://doi.org/10.17632/468j46mzdv.1 and unpack both",
    )
    parts = [framing.part(*_recordings(folder / name, DIGIT_NAMES, ".bin")) for name in ("Train", "Test")]
    return framing.dataset(*parts)


@spelled_out(size=(48, 48), test_size=0.1)
def cifar10dvs(root: PathLike, **settings: Unpack[SplitRecordings]) -> Dataset:
    """
    CIFAR10-DVS: 10,000 images of CIFAR-10, 1,000 a class, moving before an event camera (128 x 128); or any part of
    them in the same layout. The files are the `.aedat4` version that tonic offers.

    The data set comes without a split. The default is the usual one, 9,000 recordings for training and 1,000 for
    testing, here stratified; the seed decides which, and is logged.

    Source: H. Li, H. Liu, X. Ji, G. Li and L. Shi, CIFAR10-DVS: An event-stream dataset for object classification,
    Frontiers in Neuroscience 11:309, 2017 (https://doi.org/10.3389/fnins.2017.00309).

    :param root: Folder that holds `CIFAR10DVS/<class>/<name>.aedat4`, or that `CIFAR10DVS` itself.
    :param settings: Which recordings are wanted, and as what frames.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, max`; x is `(N, T, 2, H, W)`, float32, the events of a frame,
             polarity (off, on) and pixel; y is one-hot, `(N, 10)`; max is the largest value in either x, or 1.0 if
             binary or scaled.
    :raises FileNotFoundError: If a folder is missing or empty.
    :raises ValueError: If a file is not a whole recording of this sensor, a folder is not a class, or an argument is
                        out of range.
    """
    framing = Framing("cifar10dvs", _read_aedat4, (128, 128), len(CIFAR10_NAMES), settings)
    if settings["download"]:
        with downloading("CIFAR10-DVS", root):
            optional("tonic.datasets", "events").CIFAR10DVS(save_to=str(root))
    folder = _find(
        Path(root),
        "CIFAR10DVS",
        CIFAR10_NAMES,
        "Download CIFAR10DVS.zip, the .aedat4 version of https://doi.org/10.6084/m9.figshare.4724671.v2, from "
        "https://figshare.com/ndownloader/files/38023437 and unpack it and the ten archives in it",
    )
    files, labels = _recordings(folder, CIFAR10_NAMES, ".aedat4")
    seed = settings["seed"]
    train, test = split(labels, settings["test_size"], seed, str(folder))
    logger.info("CIFAR10-DVS: %d training, %d test recordings, split by seed %d", len(train), len(test), seed)
    return framing.dataset(framing.part(files, labels, train), framing.part(files, labels, test))


@spelled_out(size=(128, 128))
def dvsgesture(root: PathLike, **settings: Unpack[Recordings]) -> Dataset:
    """
    DVS128 Gesture: 11 hand gestures of 29 people before an event camera (128 x 128), 1,077 training and 264 test
    recordings, or any part of them in the same layout. The files are the version that tonic offers, one gesture each,
    with times in milliseconds. Without a limit they are sorted by person.

    Source: A. Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017
    (https://research.ibm.com/interactive/dvsgesture/).

    :param root: Folder that holds `DVSGesture/ibmGestureTrain/<user>_<light>/<label>.npy` and
                 `DVSGesture/ibmGestureTest/...`, or that `DVSGesture` itself.
    :param settings: Which recordings are wanted, and as what frames.
    :return: `(x_train, y_train), (x_test, y_test), 0.0, max`; x is `(N, T, 2, H, W)`, float32, the events of a frame,
             polarity (off, on) and pixel; y is one-hot, `(N, 11)`; max is the largest value in either x, or 1.0 if
             binary or scaled.
    :raises FileNotFoundError: If a folder is missing or empty.
    :raises ValueError: If a file is not a recording of this sensor, its name is not a label, or an argument is out of
                        range.
    """
    framing = Framing("dvsgesture", _read_npy, (128, 128), GESTURES, settings)
    if settings["download"]:
        with downloading("DVS128 Gesture", root):
            for train in (True, False):
                optional("tonic.datasets", "events").DVSGesture(save_to=str(root), train=train)
    names = ("ibmGestureTrain", "ibmGestureTest")
    folder = _find(
        Path(root),
        "DVSGesture",
        names,
        "Download ibmGestureTrain.tar.gz (https://figshare.com/ndownloader/files/38022171) and ibmGestureTest.tar.gz "
        "(https://figshare.com/ndownloader/files/38020584), cut from the recordings at "
        "https://research.ibm.com/interactive/dvsgesture/, and unpack both",
    )
    parts = [framing.part(*_gestures(folder / name)) for name in names]
    return framing.dataset(*parts)


def _find(root: Path, name: str, parts: Sequence[str], advice: str) -> Path:
    """The folder of a data set: `root/name`, or `root` itself if the parts lie there."""
    for folder in (root / name, root):
        if any((folder / part).is_dir() for part in parts):
            return folder
    raise FileNotFoundError(
        f"{root / name}: expected the folders {', '.join(parts)}, found none of them. {advice} in {root / name}, or "
        "pass download=True (art-snn train --download)"
    )


def _recordings(folder: Path, classes: Sequence[str], suffix: str) -> tuple[list[Path], np.ndarray]:
    """Files and labels of `folder/<class>/<name><suffix>`, of which some classes may be absent."""
    files: list[Path] = []
    labels: list[int] = []
    for entry in _entries(folder):
        if entry.is_file() and entry.suffix in ARCHIVES:
            continue
        if not entry.is_dir() or entry.name not in classes:
            raise ValueError(f"{entry}: expected only the class folders {', '.join(classes)} here")
        found = _entries(entry)
        for file in found:
            if not file.is_file() or file.suffix != suffix:
                raise ValueError(f"{file}: expected only {suffix} files here")
        files += found
        labels += [classes.index(entry.name)] * len(found)
    if not files:
        raise FileNotFoundError(f"{folder}: expected the class folders {', '.join(classes)}, found none of them")
    return files, np.asarray(labels)


def _gestures(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Files and labels of `folder/<user>_<light>/<label>.npy`."""
    files: list[Path] = []
    for entry in _entries(folder):
        if not entry.is_dir() or not re.fullmatch(r"user\d+_\w+", entry.name):
            raise ValueError(f"{entry}: expected only folders named like user01_fluorescent here")
        files += _entries(entry)
    expected = {f"{label}.npy" for label in range(GESTURES)}
    for file in files:
        if not file.is_file() or file.name not in expected:
            raise ValueError(f"{file}: expected only files named <label>.npy, with a label from 0 to {GESTURES - 1}")
    return files, np.asarray([int(file.stem) for file in files])


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, which must be something."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    entries = visible(folder)
    if not entries:
        raise FileNotFoundError(f"{folder}: is empty")
    return entries


def _read_bin(file: Path) -> np.ndarray:
    """Events of an N-MNIST recording, 5 bytes each."""
    size = file.stat().st_size
    if size == 0 or size % 5:
        raise ValueError(f"is {size} bytes long, expected 5 for each event")
    return optional("tonic.io", "events").read_mnist_file(str(file), dtype=READ)


def _read_aedat4(file: Path) -> np.ndarray:
    """Events of an `.aedat4` recording."""
    optional("aedat", "events")  # tonic needs it for this format alone, and does not install it
    try:
        found = optional("tonic.io", "events").read_aedat4(str(file))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a bare Exception from tonic without a stream of events; a panic from aedat's Rust
        raise ValueError(f"not a whole .aedat4 recording of events ({error})") from error
    t, x, y, polarity = (found[name] for name in found.dtype.names)
    return _structured(x, y, t, polarity)


def _read_npy(file: Path) -> np.ndarray:
    """Events of a gesture: an array `(E, 4)` with the columns x, y, p and t in milliseconds."""
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"not an .npy array ({error})") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[1] != 4 or found.dtype.kind not in "iuf":
        raise ValueError(f"expected an array of numbers (events, 4), got {getattr(found, 'shape', type(found))}")
    if not np.isfinite(found).all():
        raise ValueError("holds a NaN or an infinity")
    x, y, polarity, t = found.T
    broken = found[:, :3][found[:, :3] % 1 != 0]  # which a cast would round towards 0, so -0.5 onto the sensor
    if len(broken):
        raise ValueError(f"holds x, y or p that are no whole numbers, such as {broken[0]:g}")
    return _structured(x, y, np.rint(t.astype(np.float64) * 1000), polarity)


def _structured(x: np.ndarray, y: np.ndarray, t: np.ndarray, polarity: np.ndarray) -> np.ndarray:
    """One array of events from its columns."""
    events = np.empty(len(t), dtype=READ)
    for name, column in (("x", x), ("y", y), ("t", t), ("p", polarity)):
        events[name] = column
    return events
