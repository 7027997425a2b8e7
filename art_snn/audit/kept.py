"""The attacks that an audit has finished: one JSON file, replaced as a whole after each, from which it can go on.

A file belongs to one audit, by a hash of everything that decides its figures: another audit in the same folder has
another file, and neither uses nor replaces this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_snn.attacks import ATTACKS
from art_snn.audit.columns import COLUMNS
from art_snn.audit.metrics import Row, check_same_samples
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS, AuditSettings
from art_snn.audit.subjects import Subjects
from art_snn.files import replacing
from art_snn.identity import versions

#: An attack's row, and what the search for its γ found.
Found = tuple[Row, list[Row]]

#: Version of the file's form.
SCHEMA = 1

#: Attributes that torch gives every module; what else a module has is a setting of its own.
_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}


class Kept:
    """What an interrupted audit found, if it is the same audit.

    :param folder: Folder of the file.
    :param key: What decides the figures, see :func:`key`.
    :param untouched: Rows of attacked and held-out samples in this run, with whose samples what is kept must agree.
    :raises ValueError: If what is kept is of other samples, or of other predictions for them; it names the file.
    :raises OSError: If there is a file that cannot be read.
    """

    def __init__(self, folder: Path, key: str, untouched: Found) -> None:
        self.path, self.key = folder / f"attacks-{key[:16]}.json", key
        self.found: list[Found] = self._read()
        row, (tried,) = untouched
        try:
            check_same_samples([row, *(row for row, _ in self.found)])
            check_same_samples([tried, *(tried for _, search in self.found for tried in search)])
        except ValueError as error:
            raise ValueError(f"{self.path} does not fit this run; delete it to begin anew: {error}") from None

    def get(self, attack: str, scenario: str, chain: str, eps: float) -> Found | None:
        """
        :return: What that attack found, if it was finished.
        """
        return next((found for found in self.found if found[0].setting == (attack, scenario, chain, eps)), None)

    def add(self, found: Found) -> None:
        """
        :param found: An attack that has just finished.
        :raises OSError: If it cannot be written; it names the file.
        """
        self.found.append(found)
        plain = [{"row": row.as_dict(), "search": [tried.as_dict() for tried in search]} for row, search in self.found]
        text = json.dumps({"schema": SCHEMA, "key": self.key, "found": plain}, allow_nan=False)
        with replacing(self.path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def forget(self) -> None:
        """Delete the file: the audit is complete."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[Found]:
        try:
            file = json.loads(self.path.read_text(encoding="utf-8"))
            if (file["schema"], file["key"]) != (SCHEMA, self.key):
                return []
            return [
                (Row.from_dict(entry["row"]), [Row.from_dict(tried) for tried in entry["search"]])
                for entry in file["found"]
            ]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return []


def key(settings: AuditSettings, subjects: Subjects) -> str:
    """
    :param settings: The audit's settings.
    :param subjects: Its networks and samples.
    :return: A hash of all that decides its figures: settings, the chains and attacks that their names stand for,
        networks, samples, versions. Where networks and data lie does not: what is read there does.
    """
    chosen = {
        name: value for name, value in asdict(settings).items() if name not in ("network", "target", "second", "root")
    }
    digest = hashlib.sha256(json.dumps([SCHEMA, chosen, versions(), GAMMAS, GAMMA_LIMITS]).encode())
    for part in (*_chains(settings), *_attacks(settings)):
        digest.update(_bytes(part))
    for classifier in filter(None, (subjects.target, subjects.second)):
        digest.update(_device(classifier.device).encode())
        for part in (classifier.clip_values, classifier.input_shape, *_network(classifier.model)):
            digest.update(_bytes(part))
    for samples in (subjects.held_out, subjects.attacked):
        digest.update(_bytes(samples.x) + _bytes(samples.y))
    return digest.hexdigest()


def _chains(settings: AuditSettings) -> Iterator[Any]:
    """What the chains' names stand for: types and parameters, of each part of a mixture."""
    for name in settings.chains:
        column = COLUMNS[name]
        for weight, part in column.chain((settings.gamma or GAMMAS[0]) if column.tuned else None).parts():
            yield weight
            yield _name(type(part))
            yield from (pair for pair in sorted(vars(part).items()) if _is_plain(pair[1]))


def _attacks(settings: AuditSettings) -> Iterator[Any]:
    """What the attacks' names stand for: what makes them, and what it is given."""
    for name in settings.attacks:
        make, takes = ATTACKS[name].make, ATTACKS[name].takes
        while isinstance(make, partial):
            yield from sorted(make.keywords.items())
            make = make.func
        yield _name(make)
        yield from sorted(takes.items())


def _name(of: Any) -> str:
    return f"{of.__module__}.{of.__qualname__}"


def _network(network: nn.Module) -> Iterator[Any]:
    """All that decides a network's function: its modules' types and settings, encoder and time steps among them, and
    its numbers."""
    for name, module in network.named_modules():
        yield f"{name}: {_name(type(module))}"
        for setting, value in sorted(vars(module).items()):
            if setting not in _OF_TORCH and _is_plain(value):
                yield setting
                yield value
    for name, number in (*network.named_parameters(), *network.named_buffers()):
        yield name
        yield number


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a word, an array, or a sequence of such; what an object remembers of its use is not."""
    if type(value) in (tuple, list):  # not a tuple with names, such as the route of the last gradient
        return all(_is_plain(part) for part in value)
    return isinstance(value, (bool, int, float, str, torch.dtype, Tensor, np.ndarray))


def _bytes(value: Any) -> bytes:
    """A value in a form that no other value has."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        return f"{value.dtype}{tuple(value.shape)}".encode() + value.flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    if isinstance(value, (tuple, list)):
        return b"(" + b",".join(_bytes(part) for part in value) + b")"
    return f"{type(value).__name__} {value!r};".encode()


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
