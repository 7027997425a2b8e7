"""The cache of decoded arrays: files are decoded once, into an array on disk."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypedDict

import numpy as np
from art import config
from tqdm.auto import tqdm

from art_snn.datasets.sources import PathLike
from art_snn.keywords import Keyword

try:
    import fcntl
except ImportError:  # Windows, where no file is removed that a process has open
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

#: Names of files of a cache that are being written: the name of the array, and one of the writer's own.
PART = re.compile(r"\w+-[0-9a-f]{32}\.[0-9a-f]{32}\.part")
#: What a file system answers that cannot set space aside.
NO_RESERVATION = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Stored(TypedDict, total=False):
    """What every loader takes that decodes files."""

    cache_dir: Annotated[
        PathLike | None,
        Keyword(None, "Folder of the decoded arrays; None is the folder `art-snn` in ART's own data folder."),
    ]
    verbose: Annotated[bool, Keyword(False, "Show a progress bar.")]


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
