"""Two audits side by side: two networks, or one before and after a defence.

Attacks that both ran are compared by what became of the samples. Where the samples are the same, and both networks
classify them correctly before the attack, by McNemar's exact test (1947): a sample that fools only one of the two is as
likely to be the one's as the other's, if neither is more robust. Elsewhere by a test of two proportions: Fisher's exact
one (1922) where a count of fewer than 5 is expected, the normal approximation where not. As many tests find differences
by chance, p is adjusted by Holm's method (1979), over all tests of a comparison.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import chi2_contingency, fisher_exact
from scipy.stats.contingency import expected_freq

from art_snn.attacks import attack as attack_of
from art_snn.audit.columns import column
from art_snn.audit.metrics import FOOLED, RESISTED, WRONG, Paired, Row, SuccessRate
from art_snn.audit.report import SCHEMA, scenario_name
from art_snn.evaluation.result import NOTHING
from art_snn.files import json_text, replacing
from art_snn.identity import differences

#: The file of an audit that is read.
FILE = "results.json"
#: Adjusted p below which a difference counts as found.
LEVEL = 0.05
#: Smallest expected count for the normal approximation.
EXPECTED = 5.0
#: Version of the form in which a comparison is written.
COMPARISON_SCHEMA = 1

MCNEMAR, FISHER, PROPORTIONS = "McNemar, exact", "Fisher, exact", "two proportions"


#: Attack, scenario, chain, ε, its norm, and which of the repetitions with other seeds it is, from 1.
Setting = tuple[str, str, str, float, str, int]


class NoAudit(ValueError):
    """A folder that is no audit's; the message names it."""


@dataclass(frozen=True)
class Audit:
    """What an audit's folder says.

    :param folder: The folder.
    :param target: The network, in words.
    :param settings: The audit's settings.
    :param rows: What became of the samples, attack by attack.
    :param samples: Digests of the data that the samples are of, and the samples' places there; None if not known.
    :param versions: Versions of packages.
    :param worst: The worst case; None if there is none.
    """

    folder: Path
    target: str
    settings: dict[str, Any]
    rows: list[Row]
    samples: tuple[dict[str, str], list[int]] | None
    versions: dict[str, str]
    worst: dict[str, Any] | None

    def results(self) -> dict[Setting, Row]:
        """
        :return: Its rows by what they are of.
        """
        found: dict[Setting, Row] = {}
        for row in self.rows:
            seeds = sorted(other.seed for other in self.rows if other.setting == row.setting)
            key = (*row.setting, str(self.settings["norm"]), seeds.index(row.seed) + 1)
            found[key] = row
        return found


def read(folder: str | Path) -> Audit:
    """
    :param folder: Folder of an audit.
    :return: What it says; what else is in its file is left.
    :raises NoAudit: If there is no such file, or one of another form.
    """
    folder = Path(folder)
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoAudit(f"{folder} is no folder of an audit: it has no {FILE}.") from None
    except (ValueError, RecursionError) as error:
        raise NoAudit(f"{path} is no JSON file: {error}.") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema is True or schema != SCHEMA:
        raise NoAudit(
            f"{path} is of schema {schema!r}, this version of art-snn compares {SCHEMA}: run the audit again."
        )
    try:
        rows = [Row.from_dict(row) for row in found["results"]]
        data, places = found["data"], found["attacked_samples"]
        digests = {name: data[name] for name in ("test_arrays", "test") if name in data}
        known_samples = None if places is None or "test_arrays" not in digests else (digests, list(places))
        worst = found["worst_case"]
        if worst is not None:
            worst = {name: worst[name] for name in ("plan", "eps", "norm", "fooled_by")}
        audit = Audit(folder, found["target"], found["settings"], rows, known_samples, found.get("versions", {}), worst)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NoAudit(f"{path} is not as an audit writes it ({type(error).__name__}: {error}).") from None
    _check(audit, path)
    return audit


def _check(audit: Audit, path: Path) -> None:
    """
    :raises NoAudit: If numbers of samples, or settings, contradict each other.
    """
    lengths = {len(row.outcomes) for row in audit.rows}
    lengths |= set() if audit.samples is None else {len(audit.samples[1])}
    lengths |= set() if audit.worst is None else {len(audit.worst["fooled_by"])}
    if len(lengths) > 1:
        raise NoAudit(f"{path} is of {', '.join(map(str, sorted(lengths)))} samples at once.")
    if len({(row.setting, row.seed) for row in audit.rows}) < len(audit.rows):
        raise NoAudit(f"{path} has two results of one attack, scenario, chain, ε and seed.")
    if not isinstance(audit.settings.get("norm"), str):
        raise NoAudit(f"{path} does not say in which norm ε is.")


@dataclass(frozen=True)
class Line:
    """One attack, or the worst case, on both networks.

    :param attack: The attack, by its name; `"worst case"` for that.
    :param scenario: `"WBA"` or `"BBA"`; empty for the worst case.
    :param chain: The chain, by its name; empty for the worst case.
    :param eps: ε.
    :param norm: Its norm, `"inf"` or `"2"`.
    :param repeat: Which of the repetitions with other seeds, from 1.
    :param measure: What the two figures are: `"asr"`, of the samples classified correctly before the attack, or
        `"robust accuracy"`, of all.
    :param first: The first network's figure, in per cent; None if no sample counts.
    :param first_interval: Wilson's 95 % interval of it, in per cent.
    :param second: The second's.
    :param second_interval: Its interval.
    :param difference: Second less first, in points, on the samples of the test.
    :param samples: How many samples the test is of: of both where it is paired, else of each.
    :param only: Where the test is paired: of how many samples the figure counts the first's alone, and the second's.
    :param test: The test; empty where there is none.
    :param p: Its two-sided p.
    :param adjusted: p by Holm's method.
    """

    attack: str
    scenario: str
    chain: str
    eps: float
    norm: str
    repeat: int
    measure: str
    first: float | None
    first_interval: tuple[float, float]
    second: float | None
    second_interval: tuple[float, float]
    difference: float | None
    samples: tuple[int, ...]
    only: tuple[int, int] | None
    test: str
    p: float | None
    adjusted: float | None = None

    @property
    def found(self) -> bool:
        """Whether the two differ by more than chance."""
        return self.adjusted is not None and self.adjusted < LEVEL

    def as_dict(self) -> dict[str, Any]:
        """
        :return: It as plain values, by :data:`COLUMN_NAMES`; two numbers of one thing by a name each.
        """
        plain = asdict(self) | {"found": self.found}
        for side in ("first", "second"):
            plain[f"{side}_low"], plain[f"{side}_high"] = plain.pop(f"{side}_interval")
        plain["only_first"], plain["only_second"] = plain.pop("only") or (None, None)
        sizes = plain.pop("samples")
        plain["samples_first"], plain["samples_second"] = sizes[0], sizes[-1]
        return {name: plain[name] for name in COLUMN_NAMES}


#: Names of a line's figures in files.
COLUMN_NAMES = (
    *("attack", "scenario", "chain", "eps", "norm", "repeat", "measure", "first", "first_low", "first_high"),
    *("second", "second_low", "second_high", "difference", "samples_first", "samples_second"),
    *("only_first", "only_second", "test", "p", "adjusted", "found"),
)


@dataclass(frozen=True)
class Comparison:
    """Two audits side by side.

    :param first: The first.
    :param second: The second.
    :param lines: What both ran; the worst case first.
    :param only_first: What only the first ran.
    :param only_second: What only the second ran.
    :param why_unpaired: Why samples cannot be paired; empty if they are.
    :param notes: What else to know before one reads the figures.
    """

    first: Audit
    second: Audit
    lines: list[Line]
    only_first: list[Setting]
    only_second: list[Setting]
    why_unpaired: str
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """
        :return: All of it, as plain values.
        """
        of = [
            {
                "folder": str(audit.folder),
                "target": audit.target,
                "settings": audit.settings,
                "versions": audit.versions,
            }
            for audit in (self.first, self.second)
        ]
        return {
            "schema": COMPARISON_SCHEMA,
            "first": of[0],
            "second": of[1],
            "why_unpaired": self.why_unpaired,
            "notes": self.notes,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "lines": [line.as_dict() for line in self.lines],
        }


def compare(first: Audit, second: Audit) -> Comparison:
    """
    :param first: An audit.
    :param second: Another.
    :return: What both ran, side by side.
    """
    order, why_unpaired = _order(first, second)
    notes = _notes(first, second)
    lines = []
    if first.worst is not None and second.worst is not None:
        one, other = (np.array(worst["fooled_by"]) == NOTHING for worst in (first.worst, second.worst))
        if (first.worst["eps"], first.worst["norm"]) == (second.worst["eps"], second.worst["norm"]):
            setting = ("worst case", "", "", first.worst["eps"], first.worst["norm"], 1)
            lines.append(_line(setting, "robust accuracy", one, other, order))
        else:
            notes.append(
                "The worst cases are of other balls, "
                + " and ".join(f"L{a.worst['norm']} of {a.worst['eps']:g}" for a in (first, second) if a.worst)
                + ", and not compared."
            )
    ours, theirs = first.results(), second.results()
    for setting in ours:
        if setting in theirs:
            one, other = (np.array(list(each[setting].outcomes)) for each in (ours, theirs))
            lines.append(_line(setting, "asr", one, other, order))
    return Comparison(
        first,
        second,
        [replace(line, adjusted=p) for line, p in zip(lines, _adjusted([line.p for line in lines]), strict=True)],
        [setting for setting in ours if setting not in theirs],
        [setting for setting in theirs if setting not in ours],
        why_unpaired,
        notes,
    )


def _order(first: Audit, second: Audit) -> tuple[np.ndarray | None, str]:
    """Where the first's samples stand in the second; or None, and why they cannot be paired."""
    for name, audit in (("first", first), ("second", second)):
        if audit.samples is None:
            return None, f"the {name} audit does not say which samples it attacked"
    assert first.samples is not None and second.samples is not None
    (data, places), (other_data, other_places) = first.samples, second.samples
    if data != other_data:
        return None, f"the data are not the same ({differences(data, other_data)})"
    if sorted(places) != sorted(other_places) or len(set(places)) < len(places):
        shared = len(set(places) & set(other_places))
        return None, f"the samples are not the same: {shared} of {len(places)} and {len(other_places)} are both's"
    where = {place: row for row, place in enumerate(other_places)}
    return np.array([where[place] for place in places], dtype=np.int64), ""


def _notes(first: Audit, second: Audit) -> list[str]:
    """Settings and versions that differ, since the figures may differ by them."""
    notes = []
    for what, one, other in (
        ("settings", first.settings, second.settings),
        ("versions", first.versions, second.versions),
    ):
        if differing := differences(one, other).replace(", now ", " and "):
            notes.append(f"Their {what} differ: {differing}.")
    plans = [None if audit.worst is None else audit.worst["plan"] for audit in (first, second)]
    if None not in plans and plans[0] != plans[1]:
        notes.append(f"The worst cases are over other attacks: {plans[0]}; {plans[1]}.")
    elif plans.count(None) == 1:
        notes.append(f"Only the {'second' if plans[0] is None else 'first'} has a worst case.")
    return notes


def _line(setting: Setting, measure: str, one: np.ndarray, other: np.ndarray, order: np.ndarray | None) -> Line:
    """A line of what became of samples: letters of outcomes, or whether they are robust."""
    hits: Callable[[np.ndarray], np.ndarray]
    counts: Callable[[np.ndarray], np.ndarray]
    if measure == "asr":
        hits, counts = (lambda each: each == FOOLED), (lambda each: each != WRONG)
        assert set(one) | set(other) <= {FOOLED, RESISTED, WRONG}
    else:
        hits, counts = (lambda each: each), np.ones_like
    rates = [SuccessRate(int(hits(each).sum()), int(counts(each).sum())) for each in (one, other)]
    difference, only, test, p = None, None, "", None
    samples: tuple[int, ...] = tuple(rate.correct for rate in rates)
    if order is not None:
        both = counts(one) & counts(other[order])
        ours, theirs = hits(one)[both], hits(other[order])[both]
        only, samples = (int((ours & ~theirs).sum()), int((theirs & ~ours).sum())), (int(both.sum()),)
        if both.any():
            difference = 100.0 * (only[1] - only[0]) / samples[0]
            test, p = MCNEMAR, Paired(*only).p_value
    elif all(rate.correct for rate in rates):
        difference = rates[1].percent - rates[0].percent
        test, p = unpaired(*rates)
    figures = [rate.percent if rate.correct else None for rate in rates]
    intervals = [rate.interval() for rate in rates]
    return Line(
        *setting, measure, figures[0], intervals[0], figures[1], intervals[1], difference, samples, only, test, p
    )


def unpaired(first: SuccessRate, second: SuccessRate) -> tuple[str, float]:
    """
    :param first: How many of some samples.
    :param second: How many of some others.
    :return: The test of whether the shares differ, and its two-sided p.
    """
    counts = np.array([[rate.fooled, rate.correct - rate.fooled] for rate in (first, second)])
    if (counts.sum(0) == 0).any():
        return FISHER, 1.0  # all or none, of both
    if (expected_freq(counts) < EXPECTED).any():
        return FISHER, float(fisher_exact(counts).pvalue)
    return PROPORTIONS, float(chi2_contingency(counts, correction=False).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's method (1979): the smallest p times the number of tests, the next times one less ..., none below another.

    :param p: The tests' p.
    :return: Adjusted, in their order.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        largest = max(largest, min(1.0, p[place] * (len(p) - rank)))
        adjusted[place] = largest
    return adjusted


def _adjusted(p: Sequence[float | None]) -> list[float | None]:
    found = iter(holm([value for value in p if value is not None]))
    return [None if value is None else next(found) for value in p]


#: Heads of the table.
HEADS = ("attack", "scenario", "chain", "ε", "A (%)", "B (%)", "B - A", "samples", "test", "p", "p, Holm")


def _cells(line: Line) -> list[str]:
    name = _titled(attack_of, line.attack) + (f", {line.repeat}" if line.repeat > 1 else "")
    figures = [
        "-" if figure is None else f"{figure:.1f} ({low:.1f} to {high:.1f})"
        for figure, (low, high) in (
            (line.first, line.first_interval),
            (line.second, line.second_interval),
        )
    ]
    return [
        f"{name}, robust accuracy" if line.measure != "asr" else name,
        scenario_name(line.scenario) if line.scenario else "",
        _titled(column, line.chain) if line.chain else "",
        f"{line.eps:g}" + ("" if line.norm == "inf" else f" (L{line.norm})"),
        *figures,
        "-" if line.difference is None else f"{line.difference:+.1f}",
        " and ".join(map(str, line.samples)),
        line.test or "-",
        _p(line.p),
        _p(line.adjusted) + (" *" if line.found else ""),
    ]


def _titled(find: Callable[[str], Any], name: str) -> str:
    """An entry's title; the name itself where it was added in the program that ran the audit."""
    try:
        return find(name).title
    except ValueError:
        return name


def _p(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}" if p >= 0.001 else "< 0.001"


def words(comparison: Comparison) -> list[str]:
    """
    :param comparison: Two audits side by side.
    :return: What to know beside the table, line by line.
    """
    found = sum(line.found for line in comparison.lines)
    tests = sum(line.p is not None for line in comparison.lines)
    lines = [f"{name}: {audit.folder}, {audit.target}" for name, audit in _named(comparison)]
    lines += ["Attack success rates in per cent with 95 % intervals, but for the worst case; B - A in points."]
    if comparison.why_unpaired:
        lines += [f"Samples are not paired: {comparison.why_unpaired}."]
    else:
        lines += [
            "Samples are the same and paired: B - A and p are of those that both classify correctly before an attack; "
            "of all in the worst case."
        ]
    lines += [f"{found} of {tests} differences are found at p < {LEVEL:g}, adjusted by Holm's method (*)."]
    for name, only in (("A", comparison.only_first), ("B", comparison.only_second)):
        if only:
            lines += [f"Only in {name}: " + "; ".join(map(_in_words, only)) + "."]
    return lines + comparison.notes


def _in_words(setting: Setting) -> str:
    attack, scenario, chain, eps, norm, repeat = setting
    more = ("" if norm == "inf" else f" (L{norm})") + ("" if repeat == 1 else f", repetition {repeat}")
    return f"{attack} {scenario} {chain} at ε = {eps:g}{more}"


def _named(comparison: Comparison) -> list[tuple[str, Audit]]:
    return [("A", comparison.first), ("B", comparison.second)]


def table(comparison: Comparison) -> Table:
    """
    :param comparison: Two audits side by side.
    :return: It, for the screen.
    """
    view = Table(title="Two audits side by side", title_justify="left")
    for place, head in enumerate(HEADS):
        view.add_column(head, justify="left" if place < 3 or head == "test" else "right")
    for line in comparison.lines:
        view.add_row(*_cells(line), style="bold" if line.found else None)
    return view


def markdown(comparison: Comparison) -> str:
    """
    :param comparison: Two audits side by side.
    :return: It, as Markdown.
    """
    rows = [HEADS, ["---"] * len(HEADS), *map(_cells, comparison.lines)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {line}".replace("*", "\\*") for line in words(comparison))])


def write_json(comparison: Comparison, path: Path) -> None:
    """
    :param comparison: Two audits side by side.
    :param path: Where to; its folder exists.
    :raises OSError: If it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json_text(comparison.as_dict()), encoding="utf-8")


def write_csv(comparison: Comparison, path: Path) -> None:
    """
    :param comparison: Two audits side by side; its lines are written.
    :param path: Where to; its folder exists.
    :raises OSError: If it cannot be written.
    """
    rows = [line.as_dict() for line in comparison.lines]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMN_NAMES)
        writer.writeheader()
        writer.writerows(rows)
