"""What decides a figure, in a form that can be recorded and compared: arrays, and the versions of packages."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_snn._version import __version__

#: Attributes that torch gives every module; what else a module has is a setting of its own.
_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}


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


def type_name(of: Any) -> str:
    """
    :param of: A type or a function.
    :return: Its name, with its module's.
    """
    return f"{of.__module__}.{of.__qualname__}"


def settings_of(network: nn.Module) -> Iterator[Any]:
    """
    :param network: A network.
    :return: All that decides its function: its modules' types and settings, encoder and time steps among them, and its
        numbers.
    """
    for name, module in network.named_modules():
        yield f"{name}: {type_name(type(module))}"
        for setting, value in sorted(vars(module).items()):
            if setting not in _OF_TORCH and is_plain(value):
                yield setting
                yield value
    for name, number in (*network.named_parameters(), *network.named_buffers()):
        yield name
        yield number


def of_network(network: nn.Module) -> bytes:
    """
    :param network: A network.
    :return: A digest of all that decides its function.
    """
    digest = hashlib.sha256()
    for part in settings_of(network):
        digest.update(as_bytes(part))
    return digest.digest()


def is_plain(value: Any) -> bool:
    """
    :param value: A value.
    :return: Whether it is a number, a word, an array, or a sequence of such; what an object remembers of its use is
        not.
    """
    if type(value) in (tuple, list):  # not a tuple with names, such as the route of the last gradient
        return all(is_plain(part) for part in value)
    return isinstance(value, (bool, int, float, str, torch.dtype, Tensor, np.ndarray))


def as_bytes(value: Any) -> bytes:
    """
    :param value: A plain value.
    :return: It in a form that no other value has.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        return f"{value.dtype}{tuple(value.shape)}".encode() + value.flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    if isinstance(value, (tuple, list)):
        return b"(" + b",".join(as_bytes(part) for part in value) + b")"
    return f"{type(value).__name__} {value!r};".encode()
