"""Running a row of the table, and the table itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from art.attacks.attack import EvasionAttack

from integration_tests.art_support import defences, others, threats, trainers  # noqa: F401  (they fill CHECKS)
from integration_tests.art_support.attacks import CASES, Case, attacks, follow, norms, run
from integration_tests.art_support.checks import CHECKS, Check
from integration_tests.art_support.settings import setting

TABLE = Path(__file__).parents[2] / "docs" / "art_support.md"
SECTIONS = ("Evasion attacks", *dict.fromkeys(check.section for check in CHECKS))
WORKS, NOTE, CANNOT, FAILS = "works", "works with a note", "ART itself cannot", "fails"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    :param section: The table it belongs to.
    :param name: What was run.
    :param status: One of :data:`WORKS`, :data:`NOTE`, :data:`CANNOT` and :data:`FAILS`.
    :param note: What a user must know, or ART's reason.
    :param seconds: How long it took.
    """

    section: str
    name: str
    status: str
    note: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """What makes a row.

    :param section: The table it belongs to.
    :param name: What is run.
    :param needs: Modules that it needs, beside what art-snn installs.
    :param run: Runs it, to its status and note.
    """

    section: str
    name: str
    needs: tuple[str, ...]
    run: Callable[[], tuple[str, str]]

    def row(self) -> Row:
        """
        :return: The row, after running it.
        """
        start = time.perf_counter()
        status, note = self.run()
        return Row(self.section, self.name, status, note, time.perf_counter() - start)


def tasks() -> Iterator[Task]:
    """
    :return: Everything that is run: the attacks that ART has, and the checks of the other modules.
    """
    for attack in attacks()[0]:
        case = CASES.get(attack.__name__, Case())
        for name, one in [("", case), *((f", norm={norm}", other) for norm, other in norms(attack, case))]:
            yield Task(
                SECTIONS[0], attack.__name__ + name, one.needs, lambda attack=attack, one=one: attacked(attack, one)
            )
    for check in CHECKS:
        yield Task(check.section, check.name, check.needs, lambda check=check: checked(check))


def attacked(attack: type[EvasionAttack], case: Case) -> tuple[str, str]:
    """Run an attack on the spiking network, and on the plain one if that fails.

    :return: Status and note.
    """
    where = setting(case.setting)
    try:
        _, followed = follow(lambda: run(attack, case, where, where.spiking), where.spiking)
    except Exception as error:
        return _why(error, lambda: run(attack, case, where, where.plain), case.note)
    if (case.gradient or followed.hart or followed.stbp) and not followed.right(case.sure):
        return FAILS, f"does not follow the chain: {followed}"
    return (NOTE, case.note) if case.note else (WORKS, "")


def checked(check: Check) -> tuple[str, str]:
    """Run a check on the spiking network, and on the plain one if that fails.

    :return: Status and note.
    """
    try:
        check.run("spiking")
    except Exception as error:
        return _why(error, lambda: check.run("plain"), check.note)
    return (NOTE, check.note) if check.note else (WORKS, "")


def _why(error: Exception, plainly: Callable[[], object], note: str) -> tuple[str, str]:
    """Whose fault a failure is: ART's, if a plain PyTorch classifier of the same shape fails too."""
    try:
        plainly()
    except Exception as reason:
        return CANNOT, ": ".join(filter(None, (note, _words(reason))))
    return FAILS, _words(error)


def _words(error: Exception) -> str:
    """The first line of a message, without what may change from run to run."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return re.sub(r"0x[0-9a-f]+|/\S+/", "", f"{type(error).__name__}: {line}"[:160]).replace("|", "\\|")


def versions() -> str:
    """
    :return: What the table holds for, in words.
    """
    return f"ART {metadata.version('adversarial-robustness-toolbox')}, NumPy {metadata.version('numpy').split('.')[0]}"


def refused() -> list[str]:
    """
    :return: Names of ART's evasion attacks whose requirements a plain PyTorch classifier does not meet.
    """
    return [attack.__name__ for attack in attacks()[1]]


def written(rows: list[Row]) -> str:
    """
    :param rows: All rows.
    :return: The document.
    """
    count = {status: sum(row.status == status for row in rows) for status in (WORKS, NOTE, CANNOT, FAILS)}
    lines = [
        "# ART on spiking networks",
        "",
        f"{versions()}. Every row was run with a tiny budget on a `PyTorchSNNClassifier` and, where that failed, on a",
        "plain `PyTorchClassifier` of the same shape: what fails there too is listed as ART's own, with its reason.",
        "Attacks that differentiate the network ran along HART, again along HART, and along STBP with another γ: the",
        "first two agree, the third differs, and only the chosen chain crossed a layer.",
        "",
        "    python -m integration_tests.art_support",
        "",
        "writes this page; the tests run every row again and compare. Seconds are of a run on two CPU cores.",
        "",
        f"{count[WORKS]} rows work, {count[NOTE]} work with a note, {count[CANNOT]} ART itself cannot, "
        f"{count[FAILS]} fail. How to use what is listed here: [art.md](art.md).",
    ]
    for section in SECTIONS:
        lines += ["", f"## {section}", "", "| | | | seconds |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row.name} | {row.status} | {row.note} | {row.seconds:.1f} |" for row in rows if row.section == section
        ]
    lines += ["", "Not for PyTorch image classifiers, by ART's own requirements: " + ", ".join(refused()) + "."]
    lines += ["", "Not for spiking networks, and so without a row:", ""]
    lines += [f"- {name}: {reason}." for name, reason in threats.NOT_SPIKING.items()]
    return "\n".join(lines) + "\n"


def read(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """
    :param text: The document.
    :return: Status and note of each row, by section and name.
    """
    rows, section = {}, ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| |") and "---" not in line:
            name, status, note, _ = line.removeprefix("| ").removesuffix(" |").split(" | ")
            rows[section, name] = (status, note)
    return rows
