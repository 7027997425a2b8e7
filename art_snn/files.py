"""Files that are either whole or not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that an interruption leaves the old one, or none, but never half of the new one.

    :param path: The file to write; its folder exists.
    :return: A temporary path in the same folder, which takes the file's name at the end of the block.
    :raises OSError: If it cannot be written; it names the file.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk does not say where it is, and nobody knows the temporary name
        raise
