"""Running a suite: its networks are trained once and kept, its cells too; its table stands beside the paper's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_snn.audit import AuditSettings, run_audit
from art_snn.audit import frame as tables
from art_snn.audit.columns import column
from art_snn.audit.settings import NO_PLAN
from art_snn.files import json_text, replacing
from art_snn.identity import versions
from art_snn.specs import parsed
from art_snn.suites.cases import SUITES, Case, Suite
from art_snn.suites.paper import figures, key
from art_snn.suites.settings import SuiteSettings
from art_snn.training import TrainSettings, train

if TYPE_CHECKING:
    from pandas import DataFrame

#: Version of the form of a suite's JSON.
SCHEMA = 1


@dataclass
class SuiteResult:
    """What a suite found.

    :param suite: The suite.
    :param settings: What it was run on.
    :param rows: A row for each cell: the labels of its case, the columns of an audit's, `clean`, the target's accuracy
        in per cent on the attacked samples, and `paper`, the paper's rate where the setting is the paper's.
    """

    suite: Suite
    settings: SuiteSettings
    rows: DataFrame

    @property
    def labels(self) -> list[str]:
        """Names of what the cases differ in."""
        return [name for name in self.rows.columns if name not in (*tables.COLUMNS, "clean", "paper")]

    def table(self) -> DataFrame:
        """
        :return: Rates in per cent, a line for each case, attack and scenario, a column for each chain; the paper's
            beside it in brackets where the setting is the paper's. Or the suite's own.
        """
        if self.suite.table is not None:
            return self.suite.table(self.rows, self.labels)
        shown = self.rows.copy()
        shown["scenario"] = shown["scenario"].map(lambda name: name.partition(" ")[2] or name)
        shown["attack"] = shown["attack"].map(lambda name: parsed(name).name)
        shown["text"] = [
            f"{line.asr:.1f}" + (f" ({line.paper:.2f})" if math.isfinite(line.paper) else "")
            for line in shown.itertuples()
        ]
        shown["clean"] = shown["clean"].map("{:.1f}".format)
        lines = [*self.labels, "clean", "attack", "scenario"]
        wide = shown.pivot_table(
            index=lines, columns="chain", values="text", aggfunc="first", sort=False, observed=True
        )
        wide.columns = [column(name).title for name in wide.columns]
        return wide.fillna("").reset_index()


def run_suite(
    name: str,
    settings: SuiteSettings,
    folder: Path,
    start: Callable[[str, int], None] = lambda what, total: None,
    advance: Callable[[], None] = lambda: None,
    *,
    jobs: int | None = 1,
    cluster: str | None = None,
) -> SuiteResult:
    """
    :param name: Name of a suite.
    :param settings: What it is run on.
    :param folder: Where networks and cells are kept, for other suites too, and the findings are written.
    :param start: Called with a name and a number of steps when a stage begins.
    :param advance: Called after each step of a stage.
    :param jobs: Processes that find cells at once; as many as there are cores if None.
    :param cluster: The address of a Dask cluster's scheduler, whose workers take the place of processes.
    :return: What was found.
    :raises ValueError: If there is no such suite, or it is for other data.
    """
    import pandas

    suite = check_suite(name, settings)
    data, architecture = settings.of_paper()
    known, parts = figures(name), []
    for case in suite.cases(settings):
        result, named = _audited(case, suite, settings, folder, start, advance, jobs, cluster)
        rows = tables.cells(result)
        rows = rows[rows["scenario"].map(lambda scenario: scenario.split(" ")[0] in suite.scenarios)]
        rows.insert(0, "clean", result.accuracy[0])
        for label, value in reversed(case.labels.items()):
            rows.insert(0, label, value)
        rows["paper"] = [
            known.get(key(data, architecture, case.labels, parsed(line.attack).name, line.scenario), {}).get(line.chain)
            for line in rows.itertuples()
        ]
        rows["scenario"] = rows["scenario"].map(lambda scenario, named=named: named.get(scenario, scenario))
        parts.append(rows.astype({"paper": float}))
    found = SuiteResult(suite, settings, pandas.concat(parts, ignore_index=True))
    write(found, folder)
    return found


def check_suite(name: str, settings: SuiteSettings) -> Suite:
    """
    :param name: Name of a suite.
    :param settings: What it is to be run on.
    :return: The suite.
    :raises ValueError: If there is no such suite, or it is for other data.
    """
    if name not in SUITES:
        raise ValueError(f"name must be one of {', '.join(SUITES)}, got {name!r}.")
    suite, events = SUITES[name], settings.training().of_events
    if suite.events is not None and suite.events != events:
        kind = "event data" if suite.events else "images"
        raise ValueError(f"data must be {kind} for {name}, got {settings.data!r}.")
    return suite


def _audited(
    case: Case,
    suite: Suite,
    settings: SuiteSettings,
    folder: Path,
    start: Callable[[str, int], None],
    advance: Callable[[], None],
    jobs: int | None,
    cluster: str | None,
) -> tuple[Any, dict[str, str]]:
    """A case's audit, and the names of its scenarios that follow a further source."""

    def of(**changes: Any) -> str:
        return trained(settings.training(**case.target | changes), folder, start, advance)

    target = of()
    second = None if case.second is None else of(**{"seed": settings.seed + 1} | case.second)
    sources = {
        trained(settings.training(**changes), folder, start, advance): name for name, changes in case.sources.items()
    }
    audit: dict[str, Any] = {
        "eps": settings.strongest,
        "sweep": (),
        "plan": NO_PLAN,
        "checks": False,
        "samples": settings.samples,
    }
    audit |= {"target": target, "second": second, "sources": tuple(sources) or None}
    audit |= {"root": settings.root, "seed": settings.seed, "device": settings.device}
    result = run_audit(AuditSettings(**audit | case.audit), folder, start, advance, jobs=jobs, cluster=cluster)
    return result, {f"BBA {path}": f"BBA {name}" for path, name in sources.items()}


def trained(
    settings: TrainSettings, folder: Path, start: Callable[[str, int], None], advance: Callable[[], None]
) -> str:
    """
    :param settings: How a network is trained.
    :param folder: Where it is kept.
    :param start: Called with a name and a number of steps when it is trained.
    :param advance: Called after each step.
    :return: The path of the trained network, from the folder if it is there.
    """
    name = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()[:16]
    place = folder / "networks" / f"{settings.network}-{name}"
    if not (place / "network.json").exists():
        spikes = f"T = {settings.time_steps}, λ = {settings.decay:g}" if settings.spiking else "without spikes"
        start(f"training {settings.network}, {spikes}, seed {settings.seed}", settings.epochs)
    return str(train(settings, place, finished=lambda epoch: advance()).path)


def write(result: SuiteResult, folder: Path) -> list[Path]:
    """
    :param result: What a suite found.
    :param folder: Where to; it exists.
    :return: The files: `<suite>.parquet`, `<suite>.csv`, `<suite>.json` with all settings, `<suite>.md`, the table;
        `<suite>.png` where the suite has a figure.
    """
    name = result.suite.name
    plain = {
        "schema": SCHEMA,
        "suite": name,
        "settings": asdict(result.settings),
        "training": asdict(result.settings.training()),
        "versions": versions(),
        "rows": result.rows.astype(object).where(result.rows.notna(), None).to_dict("records"),
    }
    writers: dict[str, Callable[[Path], Any]] = {
        f"{name}.parquet": lambda path: result.rows.to_parquet(path, index=False),
        f"{name}.csv": lambda path: result.rows.to_csv(path, index=False, encoding="utf-8"),
        f"{name}.json": lambda path: path.write_text(json_text(plain), encoding="utf-8"),
        f"{name}.md": lambda path: path.write_text(markdown(result), encoding="utf-8"),
    }
    for file, put in writers.items():
        with replacing(folder / file) as temporary:
            put(temporary)
    if result.suite.draw is not None:
        result.suite.draw(result.rows, result.labels, folder / f"{name}.png")
    return [folder / file for file in writers]


def markdown(result: SuiteResult) -> str:
    """
    :param result: What a suite found.
    :return: Its table in Markdown, with a line on what it is of.
    """
    table, s = result.table(), result.settings
    data, architecture = s.of_paper()
    about = (
        f"{result.suite.title}. {data}, {architecture}, ε = {s.strongest:g}, T = {s.steps} unless it says so, "
        f"{s.samples} samples, seed {s.seed}; attack success rate in per cent"
    )
    about += ", the paper's in brackets" if result.rows["paper"].notna().any() else ""
    return f"{about}.\n\n{as_markdown(table)}"


def as_markdown(table: DataFrame) -> str:
    """
    :param table: A table.
    :return: It in Markdown.
    """
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
