"""Files that are either whole or not there, and folders that one run at a time writes to."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import sys
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"


class FolderInUse(RuntimeError):
    """A folder that another run writes to; the message says which."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that an interruption leaves the old one, or none, but never half of the new one.

    :param path: The file to write; its folder exists.
    :return: A temporary path in the same folder, which takes the file's name at the end of the block.
    :raises OSError: If it cannot be written, as on a full disk; it names the file.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield temporary
        _to_disk(temporary)  # before it has the name: after a power failure the name would stand for nothing
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Delete the temporary files of a killed run; the folder is held, so that nobody writes them any more.

    :param folder: The folder.
    :param names: Names of the files that the run writes; temporary files of others are left alone.
    """
    for name in names:
        for left in folder.glob(f".{name}.*.part*"):
            left.unlink(missing_ok=True)


def json_text(value: Any) -> str:
    """
    :param value: Dictionaries, lists and plain values.
    :return: They as JSON, with null for a number that is not finite, which JSON does not have.
    """
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder for the length of a `with` block.

    The lock is the operating system's, on the file `.lock`: it ends with the process, however that ends, so that what
    a killed run left is taken over. The file says who holds it.

    :param folder: The folder; it exists.
    :raises FolderInUse: If another run holds it.
    """
    path = folder / LOCK
    descriptor = _locked(path)
    try:
        with suppress(OSError):  # the lock holds without it
            os.truncate(path, 0)
            os.write(descriptor, json.dumps(_self()).encode())
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file
            path.unlink()
        os.close(descriptor)


def _self() -> dict[str, Any]:
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": now, "command": " ".join(sys.argv)}


def _locked(path: Path) -> int:
    """An open lock file that is locked, and still the one of that name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(descriptor):
                raise FolderInUse(f"{path.parent} is in use by {_holder(path)}: wait for it, or give another folder.")
        except BaseException:
            os.close(descriptor)
            raise
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # its holder ended just now, and deleted it


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Whether the open file could be locked."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text, which others shall read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
        warnings.warn(
            f"this file system has no locks ({error.strerror}): let no other run use the folder.", stacklevel=5
        )
    return True


def _holder(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return f"process {about['process']} on {about['host']} since {about['since']} ({about['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has not written yet who it is
