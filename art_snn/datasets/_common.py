"""What the loaders share: choosing samples, one-hot labels, and the cache of decoded arrays.

Every loader answers in ART's form, `(x_train, y_train), (x_test, y_test), min, max`: float32 inputs, one-hot float32
labels, and the two clip values.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from art import config
from art.utils import to_categorical
from tqdm.auto import tqdm

try:
    import fcntl
except ImportError:  # Windows, where no file is removed that a process has open
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Split = tuple[np.ndarray, np.ndarray]
Dataset = tuple[Split, Split, float, float]

#: Names of files of a cache that are being written: the name of the array, and one of the writer's own.
PART = re.compile(r"\w+-[0-9a-f]{32}\.[0-9a-f]{32}\.part")
#: What a file system answers that cannot set space aside.
NO_RESERVATION = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def downloading(name: str, root: PathLike) -> Iterator[None]:
    """
    A data set's own download, whose errors name neither the data set nor where it was to go.

    :param name: The data set.
    :param root: Where to.
    :raises OSError: If it fails.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OSError(f"{name} could not be downloaded to {root}: {error}") from error


def choose(labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """
    Which samples to keep, and in which order.

    Without a limit: all, in the order of the data set. With one: at most `limit` samples, drawn by the seed and dealt
    out class by class, so that the first `n` of them are class-balanced for every `n`, as far as the classes last, and
    a smaller limit gives the beginning of a larger one.

    :param labels: Integer labels `(N,)`.
    :param limit: Largest number of samples, or None.
    :param seed: Seed of the draw.
    :return: Indices into `labels`.
    :raises ValueError: If the limit is not a positive integer.
    """
    labels = np.asarray(labels)
    if limit is None:
        return np.arange(len(labels))
    check_positive("limit", limit)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # a sample's place among the shuffled samples of its class
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))[:limit]


def split(labels: np.ndarray, test_size: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """
    A stratified split: every class gives the same share to the test set.

    :param labels: Integer labels `(N,)`.
    :param test_size: Share of the test set, in (0, 1).
    :param seed: Seed of the split.
    :param name: What is split, for the error.
    :return: Indices of the training and of the test samples, each shuffled.
    :raises ValueError: If the share is out of range, or too small for one test sample of every class.
    """
    from sklearn.model_selection import train_test_split

    if not 0.0 < test_size < 1.0:
        raise ValueError(f"test_size must be between 0 and 1, got {test_size!r}")
    try:
        train, test = train_test_split(np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=seed)
    except ValueError as error:
        raise ValueError(f"{name}: no stratified split with test_size={test_size}: {error}") from error
    return train, test


def one_hot(labels: np.ndarray, nb_classes: int) -> np.ndarray:
    """
    :param labels: Integer labels `(N,)`.
    :param nb_classes: Number of classes K.
    :return: One-hot labels `(N, K)`, float32.
    """
    return to_categorical(labels, nb_classes).astype(np.float32, copy=False)


def check_positive(name: str, value: int) -> None:
    """
    :param name: Name of the argument, for the error.
    :param value: Its value.
    :raises ValueError: If it is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_size(size: Any) -> tuple[int, int]:
    """
    :param size: Height and width asked for.
    :return: The same as two integers.
    :raises ValueError: If it is not a pair of positive integers.
    """
    try:
        height, width = size
    except (TypeError, ValueError):
        raise ValueError(f"size must be (height, width), got {size!r}") from None
    check_positive("the height in size", height)
    check_positive("the width in size", width)
    return int(height), int(width)


def optional(module: str, extra: str) -> Any:
    """
    Import a module of a library that only some loaders need.

    :param module: Its name.
    :param extra: The extra of this package that installs the library.
    :return: The module.
    :raises ImportError: If the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{error}; this data set needs it: pip install 'art-snn[{extra}]'") from error


def visible(folder: Path) -> list[Path]:
    """
    :param folder: A folder.
    :return: What it holds, sorted by name, without hidden entries (which operating systems leave behind).
    """
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


class _NotStored(Exception):
    """The cache cannot be written."""


def cached(
    files: Sequence[PathLike],
    rows: np.ndarray,
    read: Callable[[Path], np.ndarray],
    *,
    settings: dict[str, Any],
    whole: bool,
    cache_dir: PathLike | None,
    verbose: bool,
    notes: dict[str, Any] | None = None,
) -> np.ndarray:
    """
    Decode files into one array on disk, once.

    The file's name is a hash of the settings and of every source file's path, size and time of change, so that no
    stale array is ever found; beside it lies a JSON file with the settings. It is written under a temporary name and
    then renamed, so that an interrupted run leaves no half array; what a killed one leaves is removed by the next that
    writes. The array is read through a memory map: only the rows asked for are loaded. Where it cannot be written, the
    files are decoded into memory, with a warning.

    :param files: All files of the data set, or of one part of it.
    :param rows: Indices of the files wanted, in the order wanted.
    :param read: From a file to its array; the same shape and dtype for all.
    :param settings: What the array depends on beside the files; JSON values.
    :param whole: Decode all files, for the rows asked for later, rather than only those wanted now.
    :param cache_dir: Folder of the cache; None is the folder `art-snn` in ART's own data folder.
    :param verbose: Show a progress bar.
    :param notes: What `read` notes of files while it decodes them, JSON values, in this dictionary: they are kept
                  beside the array, and put in it again where the array is found.
    :return: The rows, stacked.
    """
    notes = {} if notes is None else notes
    folder = Path(config.ART_DATA_PATH, "art-snn") if cache_dir is None else Path(cache_dir)
    wanted = [Path(files[row]) for row in rows]
    stored = _load(folder / f"{_key(files, settings)}.npy", len(files), notes)
    if stored is not None:
        return np.asarray(stored[rows])
    chosen = [Path(file) for file in files] if whole else wanted
    path = folder / f"{_key(chosen, settings)}.npy"
    stored = _load(path, len(chosen), notes)
    if stored is None:
        first = read(chosen[0])
        try:
            _store(chosen, first, read, path, settings, notes, verbose)
        except _NotStored as error:
            logger.warning(
                "%s cannot be written (%s): it needs %.1f MiB, %s. Going on without it: the files are decoded anew "
                "each time. cache_dir can name another folder.",
                path,
                error,
                len(chosen) * first.nbytes / 2**20,
                _free(folder),
            )
            decoded = np.empty((len(wanted), *first.shape), first.dtype)
            notes.clear()
            for row, array in enumerate(_decoded(wanted, None, read, settings["name"], verbose)):
                decoded[row] = array
            return decoded
        stored = np.load(path, mmap_mode="r")
    return np.asarray(stored[rows] if whole else stored)


def _key(files: Sequence[PathLike], settings: dict[str, Any]) -> str:
    """A name for the array that these files give under these settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in files:
        status = os.stat(file)
        digest.update(f"\n{os.path.abspath(file)}|{status.st_size}|{status.st_mtime_ns}".encode())
    return f"{settings['name']}-{digest.hexdigest()[:32]}"


def _load(path: Path, length: int, notes: dict[str, Any]) -> np.ndarray | None:
    """The cached array as a memory map, and its notes; None if there is none or its files are damaged."""
    try:
        stored = np.load(path, mmap_mode="r")
        found = dict(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["notes"])
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    if len(stored) != length:
        return None
    notes.update(found)
    return stored


def _decoded(
    files: Sequence[Path], first: np.ndarray | None, read: Callable[[Path], np.ndarray], name: str, verbose: bool
) -> Iterator[np.ndarray]:
    """The array of every file, of which the first may be known already."""
    for row, file in enumerate(tqdm(files, desc=name, disable=not verbose)):
        yield first if row == 0 and first is not None else read(file)


def _store(
    files: Sequence[Path],
    first: np.ndarray,
    read: Callable[[Path], np.ndarray],
    path: Path,
    settings: dict[str, Any],
    notes: dict[str, Any],
    verbose: bool,
) -> None:
    """Decode the files one by one into an array on disk.

    It is written as any file is, not through a memory map: a process that fills a hole in a map on a full disk is
    killed, where one that writes gets an error.
    """
    header = np.lib.format.header_data_from_array_1_0(first) | {"fortran_order": False}
    header["shape"] = (len(files), *first.shape)
    with _part(path) as part:
        with _writing():
            np.lib.format.write_array_header_1_0(part, header)
            _reserve(part, len(files) * first.nbytes)
        for array in _decoded(files, first, read, settings["name"], verbose):
            if array.shape != first.shape or array.dtype != first.dtype:
                raise ValueError(
                    f"decoded to {array.dtype} {array.shape}, the first file to {first.dtype} {first.shape}"
                )
            with _writing():
                part.write(np.ascontiguousarray(array).data)
        # Before the array gets its name, so that none is ever found without its notes.
        with _part(path.with_suffix(".json")) as beside, _writing():
            beside.write(json.dumps({**settings, "files": len(files), "notes": notes}, indent=1).encode())


@contextmanager
def _writing() -> Iterator[None]:
    """What goes wrong here is the cache's fault, not that of a file that is read."""
    try:
        yield
    except OSError as error:
        raise _NotStored(error.strerror or error) from error


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its name at the end of the block; locked till then, so that none removes it."""
    with _writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.part")
        part = temporary.open("xb")
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(part, fcntl.LOCK_EX)
        yield part
        with _writing():
            part.flush()
            os.fsync(part.fileno())  # or a power cut may leave the name with zeros
            if fcntl is None:
                part.close()  # Windows renames no file that is open
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            part.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _reserve(part: BinaryIO, size: int) -> None:
    """Set aside the space that an array takes, where the system can: better refused now than after hours."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(part.fileno(), 0, part.tell() + size)
        except OSError as error:
            if error.errno not in NO_RESERVATION:
                raise


def _sweep(folder: Path) -> None:
    """Remove what killed processes were writing: nobody holds its lock."""
    for part in folder.iterdir():
        if PART.fullmatch(part.name):
            with suppress(OSError):
                if fcntl is not None:
                    with part.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


def _free(folder: Path) -> str:
    """How much space there is, in words."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB is free"
    except OSError:
        return "how much is free cannot be told"
