"""What decides a figure, in a form that can be recorded and compared: arrays, and the versions of packages."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from typing import Any

import numpy as np

from art_snn._version import __version__


def versions() -> dict[str, str]:
    """
    :return: Versions of Python and of the packages that decide the numbers.
    """
    packages = ("adversarial-robustness-toolbox", "torch", "numpy", "scikit-learn")
    return {
        "python": platform.python_version(),
        "art-snn": __version__,
        **{package: metadata.version(package) for package in packages},
    }


def of_arrays(*arrays: np.ndarray) -> str:
    """
    :param arrays: Arrays with one row for each sample.
    :return: How many rows, and a digest of what they hold, with shapes and types.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.size:
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    return f"{len(arrays[0])} of sha256 {digest.hexdigest()[:32]}"


def unlike(x: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """
    :param x: Inputs `(N, *input_shape)`.
    :param others: Other inputs `(M, *input_shape)`.
    :return: Indices of those in `x` that equal none of the others, number for number.
    """
    known = {_of_sample(sample) for other in others for sample in other}
    return np.asarray([row for row, sample in enumerate(x) if _of_sample(sample) not in known], dtype=np.int64)


def _of_sample(sample: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(sample).data).digest()


def differences(before: dict[str, Any], now: dict[str, Any], but: frozenset[str] = frozenset()) -> str:
    """
    :param before: What was recorded, as plain values.
    :param now: What is.
    :param but: Names that do not count.
    :return: What differs, in words; empty if nothing does.
    """
    names = sorted((set(before) | set(now)) - but)
    return ", ".join(f"{n}: {before.get(n)!r}, now {now.get(n)!r}" for n in names if before.get(n) != now.get(n))
