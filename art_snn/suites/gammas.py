"""Fig. 3: the success rate against γ, and what a search on held-out samples finds beside all points of the grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_snn.files import replacing
from art_snn.specs import parsed

if TYPE_CHECKING:
    from pandas import DataFrame

#: The chain whose γ is searched; with a parameter it is a point of the grid.
SEARCHED = "hart"


def against_grid(rows: DataFrame, labels: list[str]) -> DataFrame:
    """
    :param rows: Rows of the suite.
    :param labels: Columns by which its cases differ.
    :return: A line for each case and attack: the best of the grid, chosen on the attacked samples themselves; what the
        search chose on others; how many γ it tried; and how many points of success rate it lost.
    """
    import pandas

    lines = []
    for names, group in rows.groupby([*labels, "attack"], sort=False):
        found, points = _parts(group)
        best = points.loc[points["asr"].idxmax()]
        line = dict(zip([*labels, "attack"], names, strict=True)) | {
            "clean": f"{found['clean']:.1f}",
            "best of the grid": f"{best['asr']:.1f}",
            "at γ": f"{best['point']:g}",
            "found": f"{found['asr']:.1f}",
            "at γ, found": f"{found['gamma']:g}",
            "tried": f"{found['tried']} of {len(points)}",
            "lost": f"{best['asr'] - found['asr']:.1f}",
        }
        lines.append(line)
    return pandas.DataFrame(lines)


def draw(rows: DataFrame, labels: list[str], path: Path) -> None:
    """
    :param rows: Rows of the suite.
    :param labels: Columns by which its cases differ.
    :param path: Where the figure is written, as PNG: a panel for each attack, a curve for each case, and a ring at what
        the search found.
    """
    from art_snn.audit.drawing import COLOURS, DPI, canvas

    attacks = list(dict.fromkeys(rows["attack"]))
    figure, ((first, *_),) = canvas(1, len(attacks), 4.6 * len(attacks), 3.6)
    for axis, attack in zip(figure.axes, attacks, strict=True):
        if axis is not first:
            axis.sharey(first)
        cases = rows[rows["attack"] == attack].groupby(labels, sort=False)
        for number, (names, group) in enumerate(cases):
            found, points = _parts(group)
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)]}
            said = ", ".join(f"{label} = {name}" for label, name in zip(labels, names, strict=True))
            axis.plot(points["point"], points["asr"], marker=".ovs^"[number % 5], markersize=4, label=said, **style)
            axis.plot(found["gamma"], found["asr"], "o", markersize=11, fillstyle="none", **style)
        axis.set(title=attack.upper(), xlabel="γ")
        axis.grid(alpha=0.3)
    first.set_ylabel("attack success rate (%)")
    first.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _parts(group: DataFrame) -> tuple[Any, DataFrame]:
    """What the search found, and the points of the grid with their γ."""
    searched = group["chain"] == SEARCHED
    points = group[~searched].copy()
    points["point"] = [float(parsed(name).arguments["gamma"]) for name in points["chain"]]
    return group[searched].iloc[0], points
