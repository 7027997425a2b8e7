"""What an audit has found so far: one file for each cell, whole or not there, under a key of all that decides it.

A run that was killed has lost the cells that were running; another run in the same folder, of other settings too, finds
what it shares with those before and computes only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from art_snn.audit.cells import SCHEMA, Block, Cell
from art_snn.audit.metrics import Row, check_same_samples
from art_snn.evaluation import Flag, WorstCase
from art_snn.files import json_text, replacing, sweep

#: An attack's row, and what the search for its γ found.
Found = tuple[Row, list[Row]]


class Store:
    """The cells of a folder.

    :param folder: Their folder, which this run holds; it is made.
    :param untouched: Rows of attacked and held-out samples in this run, with whose samples what is kept must agree.
    """

    def __init__(self, folder: Path, untouched: Found) -> None:
        self.folder, self.untouched = folder, untouched
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, ("*",))  # what a killed run was writing

    def cell(self, key: str) -> Found | None:
        """
        :param key: A cell's key.
        :return: What it found, if it was finished; None as well if its file is damaged.
        :raises ValueError: If it is of other samples, or of other predictions for them; it names the file.
        """
        path = self._path(key, ".json")
        try:
            file = json.loads(path.read_text(encoding="utf-8"))
            if (file["schema"], file["key"]) != (SCHEMA, key):
                return None
            found = Row.from_dict(file["row"]), [Row.from_dict(tried) for tried in file["search"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        row, (tried,) = self.untouched
        try:
            check_same_samples([row, found[0]])
            check_same_samples([tried, *found[1]])
        except ValueError as error:
            raise ValueError(f"{path} does not fit this run; delete it to begin anew: {error}") from None
        return found

    def block(self, key: str) -> WorstCase | None:
        """
        :param key: A block's key.
        :return: What it found, if it was finished; None as well if its file is damaged.
        """
        try:
            return WorstCase.load(self._path(key, ".npz"))
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def get(self, work: Cell | Block, key: str) -> Found | WorstCase | None:
        """
        :param work: What is wanted.
        :param key: Its key.
        :return: What it found, if it was finished.
        """
        return self.cell(key) if isinstance(work, Cell) else self.block(key)

    def put(self, key: str, found: Found | WorstCase) -> None:
        """
        :param key: The key of what has just finished.
        :param found: What it found.
        :raises OSError: If it cannot be written; it names the file.
        """
        if isinstance(found, WorstCase):
            with replacing(self._path(key, ".npz")) as temporary:
                found.save(temporary)
            return
        row, search = found
        plain = {"schema": SCHEMA, "key": key, "row": row.as_dict(), "search": [tried.as_dict() for tried in search]}
        with replacing(self._path(key, ".json")) as temporary:
            temporary.write_text(json.dumps(plain, allow_nan=False), encoding="utf-8")

    def checks(self, key: str, examine: Callable[[], list[Flag]]) -> list[Flag]:
        """
        :param key: The key of all that an audit found.
        :param examine: What examines whether it can be trusted.
        :return: What it says, or said before.
        """
        path = self._path(key, ".checks")
        try:
            file = json.loads(path.read_text(encoding="utf-8"))
            if file["key"] == key:
                return [Flag(**check) for check in file["checks"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        found = examine()
        with replacing(path) as temporary:
            plain = {"key": key, "checks": [asdict(check) for check in found]}
            temporary.write_text(json_text(plain), encoding="utf-8")
        return found

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / f"{key[:32]}{suffix}"
