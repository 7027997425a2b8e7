"""Where data sets come from: their folders, their downloads, and the libraries that read them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from art_snn.keywords import Keyword

PathLike = str | os.PathLike[str]


class Download(TypedDict, total=False):
    """What every loader takes that can download its data set."""

    download: Annotated[
        bool, Keyword(False, "Let tonic or torchvision download the data set if it is not there, or not complete.")
    ]


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
