"""What the loaders share: choosing samples, one-hot labels, and the cache of decoded arrays.

Every loader answers in ART's form, `(x_train, y_train), (x_test, y_test), min, max`: float32 inputs, one-hot float32
labels, and the two clip values.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from art import config
from art.utils import to_categorical
from tqdm.auto import tqdm

PathLike = str | os.PathLike[str]
Split = tuple[np.ndarray, np.ndarray]
Dataset = tuple[Split, Split, float, float]


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


def cached(
    files: Sequence[PathLike],
    rows: np.ndarray,
    read: Callable[[Path], np.ndarray],
    *,
    settings: dict[str, Any],
    whole: bool,
    cache_dir: PathLike | None,
    verbose: bool,
) -> np.ndarray:
    """
    Decode files into one array on disk, once.

    The file's name is a hash of the settings and of every source file's path, size and time of change, so that no
    stale array is ever found; beside it lies a JSON file with the settings. It is written under a temporary name and
    then renamed, so that an interrupted run leaves no half array. The array is read through a memory map: only the
    rows asked for are loaded.

    :param files: All files of the data set, or of one part of it.
    :param rows: Indices of the files wanted, in the order wanted.
    :param read: From a file to its array; the same shape and dtype for all.
    :param settings: What the array depends on beside the files; JSON values.
    :param whole: Decode all files, for the rows asked for later, rather than only those wanted now.
    :param cache_dir: Folder of the cache; None is the folder `art-snn` in ART's own data folder.
    :param verbose: Show a progress bar.
    :return: The rows, stacked.
    """
    folder = Path(config.ART_DATA_PATH, "art-snn") if cache_dir is None else Path(cache_dir)
    wanted = [Path(files[row]) for row in rows]
    stored = _load(folder / f"{_key(files, settings)}.npy", len(files))
    if stored is not None:
        return np.asarray(stored[rows])
    chosen = [Path(file) for file in files] if whole else wanted
    path = folder / f"{_key(chosen, settings)}.npy"
    stored = _load(path, len(chosen))
    if stored is None:
        folder.mkdir(parents=True, exist_ok=True)
        _decode(chosen, read, path, verbose)
        path.with_suffix(".json").write_text(json.dumps({**settings, "files": len(chosen)}, indent=1))
        stored = np.load(path, mmap_mode="r")
    return np.asarray(stored[rows] if whole else stored)


def _key(files: Sequence[PathLike], settings: dict[str, Any]) -> str:
    """A name for the array that these files give under these settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in files:
        status = os.stat(file)
        digest.update(f"\n{os.path.abspath(file)}|{status.st_size}|{status.st_mtime_ns}".encode())
    return f"{settings['name']}-{digest.hexdigest()[:32]}"


def _load(path: Path, length: int) -> np.ndarray | None:
    """The cached array as a memory map, or None if there is none or its file is damaged."""
    try:
        stored = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return stored if len(stored) == length else None


def _decode(files: Sequence[Path], read: Callable[[Path], np.ndarray], path: Path, verbose: bool) -> None:
    """Decode the files one by one into an array on disk, which gets its name only when it is complete."""
    first = read(files[0])
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.part")
    try:
        stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=first.dtype, shape=(len(files), *first.shape))
        stored[0] = first
        for row, file in enumerate(tqdm(files[1:], desc=path.stem.split("-")[0], disable=not verbose), start=1):
            stored[row] = read(file)
        stored.flush()
        del stored  # Windows renames no file that is still mapped
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
