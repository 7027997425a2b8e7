"""The attacks that an audit has finished: one JSON file, replaced as a whole after each, from which it can go on."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from art_snn.audit.metrics import Row
from art_snn.audit.settings import AuditSettings
from art_snn.audit.subjects import Subjects
from art_snn.files import replacing

#: An attack's row, and what the search for its γ found.
Found = tuple[Row, list[Row]]


class Kept:
    """What an interrupted audit found, if it is the same audit.

    :param path: The file.
    :param key: What decides the numbers, see :func:`key`; a file of another audit is not used, and replaced.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.found: list[Found] = self._read()

    def get(self, attack: str, scenario: str, chain: str, eps: float) -> Found | None:
        """
        :return: What that attack found, if it was finished.
        """
        for row, search in self.found:
            if (row.attack, row.scenario, row.chain, row.eps) == (attack, scenario, chain, eps):
                return row, search
        return None

    def add(self, found: Found) -> None:
        """
        :param found: An attack that has just finished.
        """
        self.found.append(found)
        plain = [{"row": row.as_dict(), "search": [tried.as_dict() for tried in search]} for row, search in self.found]
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps({"key": self.key, "found": plain}))

    def forget(self) -> None:
        """Delete the file: the audit is complete."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[Found]:
        try:
            file = json.loads(self.path.read_text())
            if file["key"] != self.key:
                return []
            return [
                (Row.from_dict(entry["row"]), [Row.from_dict(tried) for tried in entry["search"]])
                for entry in file["found"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def key(settings: AuditSettings, subjects: Subjects) -> str:
    """
    :param settings: The audit's settings.
    :param subjects: Its networks and samples.
    :return: A hash of all that decides its numbers: settings, weights, samples, versions.
    """
    digest = hashlib.sha256(json.dumps([asdict(settings), versions()]).encode())
    for classifier in (subjects.target, subjects.second):
        for name, value in classifier.model.state_dict().items():
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    for samples in (subjects.held_out, subjects.attacked):
        digest.update(samples.x.tobytes() + samples.y.tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """
    :return: Versions of Python and of the packages that decide the numbers.
    """
    packages = ("art-snn", "adversarial-robustness-toolbox", "torch", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in packages}}
