"""`report.html`: all that an audit found, in one file that needs nothing else, no script and no network.

Whatever comes from outside, such as a network's name, is escaped by the template's engine.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from art_snn.attacks import attack as attack_of
from art_snn.audit import report, tables
from art_snn.audit.command import command
from art_snn.audit.drawing import Picture
from art_snn.audit.metrics import FOOLED, WRONG
from art_snn.audit.protocol import AuditResult
from art_snn.audit.settings import SCENARIOS
from art_snn.audit.tables import Cell, Table
from art_snn.settings import about, is_default


def page(result: AuditResult, drawn: Iterable[tuple[Picture, bytes]]) -> str:
    """
    :param result: An audit's findings.
    :param drawn: Its figures, each as PNG too.
    :return: The page: the verdict and the flags, findings, figures, method, settings, how to reproduce it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    engine = Environment(
        loader=PackageLoader("art_snn.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    figures = [
        {"name": figure.name, "title": figure.title, "alt": figure.alt, "png": base64.b64encode(png).decode("ascii")}
        for figure, png in drawn
    ]
    worst = None
    if result.worst is not None:
        low, high = result.worst.interval
        worst = {"percent": 100.0 * result.worst.robust_accuracy, "low": 100.0 * low, "high": 100.0 * high}
    return engine.get_template("report.html").render(
        description=result.description,
        headline=report.headline(result),
        worst=worst,
        worst_words=None if result.worst is None else report.worst_case(result),
        members=None if result.worst is None else tables.members(result),
        eps=f"{result.settings.eps:g}",
        norm=result.settings.norm,
        samples=len(result.rows[0].outcomes) if result.rows else 0,
        flags=result.checks,
        raised=result.flags,
        rates=[tables.rates(result, scenario) for scenario in result.settings.scenarios] if result.rows else [],
        findings=report.findings(result) if result.rows else [],
        by_sample=by_sample(result),
        cells=tables.cells(result),
        figures=figures,
        method=report.method(result),
        black_box=len(result.settings.scenarios) > 1,
        settings=[
            {
                "name": each.name,
                "value": _words(getattr(result.settings, each.name), about(each).unset),
                "meaning": about(each).meaning,
                "changed": not is_default(result.settings, each.name),
            }
            for each in fields(result.settings)
        ],
        command=command(result.settings),
        facts={"Seeds": result.seeds, "Data": result.data, "Versions": result.versions},
    )


def by_sample(result: AuditResult) -> Table:
    """
    :param result: An audit's findings.
    :return: By how many chains' white-box attack at the tables' ε the samples are fooled, a line for each attack.
    """
    settings = result.settings
    lines, most = [], 0
    for attack in settings.attacks if result.rows else ():
        chains = result.chains(attack, SCENARIOS[0])
        rows = [result.rate(attack, SCENARIOS[0], chain, settings.eps) for chain in chains]
        letters = list(zip(*(row.outcomes for row in rows), strict=True))
        counts = Counter(each.count(FOOLED) for each in letters if WRONG not in each)
        most = max(most, len(chains))
        lines.append((attack_of(attack).title, len(chains), counts, sum(WRONG in each for each in letters)))
    title = f"Samples by the number of chains whose white-box attack at ε = {settings.eps:g} fools them"
    return Table(
        title,
        ("attack", "wrong before", *map(str, range(most + 1))),
        tuple(
            tuple(
                Cell(text)
                for text in (name, str(wrong), *(str(counts[n]) if n <= number else "" for n in range(most + 1)))
            )
            for name, number, counts, wrong in lines
        ),
    )


def _words(value: Any, unset: str | None) -> str:
    """A setting's value."""
    if value is None:
        return unset or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
