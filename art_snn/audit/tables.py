"""The tables of an audit, cell by cell in words; and as text to paste: Markdown, LaTeX.

LaTeX needs the package `booktabs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from art_snn.attacks import attack as attack_of
from art_snn.audit.columns import column
from art_snn.audit.protocol import AuditResult


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    :param text: What it says; empty if nothing.
    :param best: Whether it is the highest of its line.
    :param notes: Lines below it.
    """

    text: str
    best: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    :param title: What it shows.
    :param columns: The columns' titles.
    :param lines: Its lines, a cell for each column.
    :param words: How many columns, from the left, hold words: numbers stand at the right of theirs.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]
    words: int = 1


def scenario_name(scenario: str) -> str:
    """
    :param scenario: A scenario of the settings.
    :return: It, in words.
    """
    kind, _, source = scenario.partition(" ")
    return {"WBA": "white-box", "BBA": "black-box"}[kind] + (f" from {source}" if source else "")


def all_tables(result: AuditResult) -> Iterator[Table]:
    """
    :param result: An audit's findings.
    :return: The success rates of each scenario, and the members of the worst case, if there is one.
    """
    for scenario in result.settings.scenarios:
        yield rates(result, scenario)
    if result.worst is not None:
        yield members(result)


def rates(result: AuditResult, scenario: str) -> Table:
    """
    :param result: An audit's findings.
    :param scenario: `"WBA"` (in the manner of Table 2 of Hao et al., ICLR 2024) or a black-box one (Table 3).
    :return: Attack success rates in per cent, one line an attack, one column a chain; the chosen γ below its rate.
    :raises ValueError: If the rows are not of the same samples.
    """
    result.check()
    settings = result.settings
    chains = list(dict.fromkeys(row.chain for row in result.rows if row.scenario == scenario))
    lines = []
    for attack in settings.attacks:
        best, there = result.strongest(attack, scenario), result.chains(attack, scenario)
        cells = [_rate(result, attack, scenario, chain, best) if chain in there else Cell("") for chain in chains]
        lines.append((Cell(attack_of(attack).title), *cells))
    title = f"Attack success rate (%), {scenario_name(scenario)}, ε = {settings.eps:g}"
    return Table(title, ("attack", *(column(chain).title for chain in chains)), tuple(lines))


def _rate(result: AuditResult, attack: str, scenario: str, chain: str, best: list[str]) -> Cell:
    """A rate; below it the spread over seeds, and the γ that was chosen."""
    rows = result.rates(attack, scenario, chain, result.settings.eps)
    if not rows[0].rate.correct:
        return Cell("-")
    found, notes = [row.rate.percent for row in rows], []
    if len(found) > 1:
        notes.append(f"{min(found):.1f} to {max(found):.1f}")
    if gammas := sorted({row.gamma for row in rows if row.gamma is not None}):
        notes.append("γ = " + ", ".join(f"{gamma:g}" for gamma in gammas))
    return Cell(f"{np.mean(found):.1f}", chain in best, tuple(notes))


def members(result: AuditResult) -> Table:
    """
    :param result: An audit's findings, with a worst case.
    :return: Its members, in the order in which they ran.
    """
    worst = result.worst
    assert worst is not None
    lines = tuple(
        tuple(map(Cell, (line.attack, line.chain or "-", str(line.tried), str(line.fooled))))
        for line in worst.members.itertuples()
    )
    each = "each on what the ones before left" if worst.each is None else "each on all"
    title = f"Worst case at ε = {worst.eps:g}: samples that its attacks were tried on and fooled, {each}"
    return Table(title, ("attack", "chain", "tried", "fooled"), lines, words=2)


def cells(result: AuditResult) -> Table:
    """
    :param result: An audit's findings.
    :return: Every attack, with the interval of its rate, and how long it took.
    """
    titles = ("attack", "scenario", "chain", "ε", "seed", "γ", "fooled", "ASR (%)", "95 % interval", "seconds")
    lines = []
    for row in result.rows:
        low, high = row.rate.interval()
        percent = f"{row.rate.percent:.1f}" if row.rate.correct else "-"
        words = (attack_of(row.attack).title, scenario_name(row.scenario), column(row.chain).title)
        numbers: Sequence[Any] = (f"{row.eps:g}", row.seed, "-" if row.gamma is None else f"{row.gamma:g}")
        found = (f"{row.rate.fooled} of {row.rate.correct}", percent, f"{low:.1f} to {high:.1f}", f"{row.seconds:.1f}")
        lines.append(tuple(Cell(str(part)) for part in (*words, *numbers, *found)))
    return Table("Every attack", titles, tuple(lines), words=3)


def markdown(table: Table) -> str:
    """
    :param table: A table.
    :return: It as Markdown, under its title.
    """
    marks = [":--" if number < table.words else "--:" for number in range(len(table.columns))]
    lines = [[_markdown(title) for title in table.columns], marks]
    for line in table.lines:
        lines.append(["<br>".join([_strong(cell, "**{}**", _markdown), *map(_markdown, cell.notes)]) for cell in line])
    return "\n".join([f"**{_markdown(table.title)}**", "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def latex(table: Table) -> str:
    """
    :param table: A table.
    :return: It as an environment `table` of LaTeX, to paste into a paper.
    """
    form = "l" * table.words + "r" * (len(table.columns) - table.words)
    lines = [" & ".join(map(_latex, table.columns))]
    for line in table.lines:
        lines.append(" & ".join(_stacked(cell) for cell in line))
    head, *body = (f"    {line} \\\\" for line in lines)
    return "\n".join(
        [
            *("\\begin{table}", "  \\centering", f"  \\caption{{{_latex(table.title)}.}}"),
            *(f"  \\begin{{tabular}}{{{form}}}", "    \\toprule", head, "    \\midrule"),
            *(*body, "    \\bottomrule", "  \\end{tabular}", "\\end{table}", ""),
        ]
    )


def _strong(cell: Cell, form: str, escaped: Any) -> str:
    text = escaped(cell.text)
    return form.format(text) if cell.best else text


def _stacked(cell: Cell) -> str:
    lines = [_strong(cell, "\\textbf{{{}}}", _latex), *(f"\\scriptsize {_latex(note)}" for note in cell.notes)]
    stacked = " \\\\ ".join(lines)
    return stacked if len(lines) == 1 else f"\\begin{{tabular}}[t]{{@{{}}r@{{}}}}{stacked}\\end{{tabular}}"


def _markdown(text: str) -> str:
    """A text in which nothing means something else to Markdown."""
    return re.sub(r"([\\`*_|<>\[\]~])", r"\\\1", text.replace("&", "&amp;")).replace("\n", " ")


#: Letters that LaTeX reads otherwise, or that its fonts lack.
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"γ": r"$\gamma$", "ε": r"$\varepsilon$", "λ": r"$\lambda$", "α": r"$\alpha$", "θ": r"$\theta$"},
    **{"∞": r"$\infty$", "×": r"$\times$", "−": "$-$"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
