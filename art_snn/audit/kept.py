"""The attacks that an audit has finished: one JSON file, replaced as a whole after each, from which it can go on.

A file belongs to one audit, by a hash of everything that decides its figures: another audit in the same folder has
another file, and neither uses nor replaces this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from art_snn.attacks import ATTACKS
from art_snn.audit.columns import COLUMNS
from art_snn.audit.metrics import Row, check_same_samples
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS, AuditSettings
from art_snn.audit.subjects import Subjects
from art_snn.files import replacing
from art_snn.identity import as_bytes, is_plain, settings_of, type_name, versions

#: An attack's row, and what the search for its γ found.
Found = tuple[Row, list[Row]]

#: Version of the file's form.
SCHEMA = 1


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
        digest.update(as_bytes(part))
    for classifier in filter(None, (subjects.target, subjects.second)):
        digest.update(_device(classifier.device).encode())
        for part in (classifier.clip_values, classifier.input_shape, *settings_of(classifier.model)):
            digest.update(as_bytes(part))
    for samples in (subjects.held_out, subjects.attacked):
        digest.update(as_bytes(samples.x) + as_bytes(samples.y))
    return digest.hexdigest()


def _chains(settings: AuditSettings) -> Iterator[Any]:
    """What the chains' names stand for: types and parameters, of each part of a mixture."""
    for name in settings.chains:
        column = COLUMNS[name]
        for weight, part in column.chain((settings.gamma or GAMMAS[0]) if column.tuned else None).parts():
            yield weight
            yield type_name(type(part))
            for setting, value in sorted(vars(part).items()):
                if is_plain(value) or is_dataclass(value):  # such as a surrogate, which says its parameters
                    yield setting
                    yield value if is_plain(value) else repr(value)


def _attacks(settings: AuditSettings) -> Iterator[Any]:
    """What the attacks' names stand for: what makes them, and what it is given."""
    for name in settings.attacks:
        make, takes = ATTACKS[name].make, ATTACKS[name].takes
        while isinstance(make, partial):
            yield from sorted(make.keywords.items())
            make = make.func
        yield type_name(make)
        yield from sorted(takes.items())


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
