"""An audit's findings: on the screen, as files, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from art_snn.attacks import attack as attack_of
from art_snn.audit import frame
from art_snn.audit.columns import COLUMNS, column
from art_snn.audit.metrics import paired
from art_snn.audit.protocol import AuditResult
from art_snn.audit.settings import GAMMA_LIMITS, GAMMAS
from art_snn.files import json_text, replacing
from art_snn.identity import versions

#: Version of the form of `results.json`.
SCHEMA = 3


def scenario_name(scenario: str) -> str:
    """
    :param scenario: A scenario of the settings.
    :return: It, in words.
    """
    kind, _, source = scenario.partition(" ")
    return {"WBA": "white-box", "BBA": "black-box"}[kind] + (f" from {source}" if source else "")


def worst_case(result: AuditResult) -> str:
    """
    :param result: An audit's findings, with a worst case.
    :return: It, in words: the first figure.
    """
    worst = result.worst
    assert worst is not None
    low, high = (100.0 * end for end in worst.interval)
    by = worst.members[worst.members["fooled"] > 0]
    counts = "; ".join(
        f"{line.fooled} by {line.attack}" + (f" along {line.chain}" if line.chain else "") for line in by.itertuples()
    )
    return (
        f"Worst case at ε = {worst.eps:g}: {100.0 * worst.robust_accuracy:.1f} % of the samples are classified "
        "correctly "
        f"and survive every attack (95 % interval {low:.1f} to {high:.1f}); attack success rate "
        f"{100.0 * worst.success_rate:.1f} %. "
        f"Plan {worst.plan}, {len(worst.attacks)} attacks, each on what the ones before left: fooled "
        f"{counts or 'none'}."
    )


def flags(result: AuditResult) -> str:
    """
    :param result: An audit's findings.
    :return: What speaks against them, a line for each flag: what stands before all figures.
    """
    if not result.flags:
        return f"Can the figures be trusted? Of {len(result.checks)} checks none speaks against them."
    lines = [f"FLAG {flag}" for flag in result.flags]
    return "\n".join([f"{len(lines)} of {len(result.checks)} checks speak against the figures:", *lines])


def table(result: AuditResult, scenario: str) -> Table:
    """
    :param result: An audit's findings.
    :param scenario: `"WBA"` (in the manner of the paper's Table 2) or `"BBA"` (Table 3).
    :return: Attack success rates in per cent, one line an attack, one column a chain; the chosen γ below its rate.
    :raises ValueError: If the rows are not of the same samples.
    """
    result.check()
    settings = result.settings
    view = Table(
        title=f"Attack success rate (%), {scenario_name(scenario)}, ε = {settings.eps:g}", title_justify="left"
    )
    view.add_column("attack")
    chains = list(dict.fromkeys(row.chain for row in result.rows if row.scenario == scenario))
    for chain in chains:
        view.add_column(column(chain).title, justify="right")
    for attack in settings.attacks:
        best, there = result.strongest(attack, scenario), result.chains(attack, scenario)
        cells = [_cell(result, attack, scenario, chain, best) if chain in there else "" for chain in chains]
        view.add_row(attack_of(attack).title, *cells)
    return view


def _cell(result: AuditResult, attack: str, scenario: str, chain: str, best: list[str]) -> str:
    """A rate, bold if it is the highest; below it the spread over seeds, and the γ that was chosen."""
    rows = result.rates(attack, scenario, chain, result.settings.eps)
    if not rows[0].rate.correct:
        return "-"
    rates = [row.rate.percent for row in rows]
    text = f"{np.mean(rates):.1f}"
    lines = [f"[bold]{text}[/bold]" if chain in best else text]
    if len(rates) > 1:
        lines.append(f"{min(rates):.1f} to {max(rates):.1f}")
    gammas = sorted({row.gamma for row in rows if row.gamma is not None})
    if gammas:
        lines.append("γ = " + ", ".join(f"{gamma:g}" for gamma in gammas))
    return "\n".join(lines)


def headline(result: AuditResult) -> str:
    """
    :param result: An audit's findings.
    :return: What was attacked: the lines above the tables.
    """
    accuracy, second = result.accuracy
    attacked = len(result.rows[0].outcomes) if result.rows else result.settings.samples
    text = f"Target: {result.description}. Clean accuracy {accuracy:.1f} % on the {attacked} attacked samples"
    if second is None:
        return f"{text}."
    seed = f", seed {result.seeds['second']}" if "second" in result.seeds else ""
    return f"{text} (second network{seed}: {second:.1f} %)."


def verdict(result: AuditResult) -> str:
    """
    :param result: An audit's findings.
    :return: Which chain came out strongest, and how the featured ones did: the lines below the tables.
    """
    s = result.settings
    lines = []
    for sized in (True, False):
        stepped = [each.title for each in s.entries if each.takes and ("step_size" in each.takes) == sized]
        if stepped:
            takes, of = "takes" if len(stepped) == 1 else "take", f" of {s.alpha(s.eps):g}" if sized else ""
            lines.append(f"{_words(stepped)} {takes} {s.steps} steps{of}.")
    columns = s.columns
    if tuned := [each.entry.title for each in columns if each.tuned]:
        how = (
            f"is given as {s.gamma:g}"
            if s.gamma is not None
            else f"is chosen on {result.held_out} held-out samples, each chain's own, from "
            f"{_words([f'{gamma:g}' for gamma in GAMMAS])}, from beyond where the best is at an edge, and from the "
            "middles to its neighbours"
        )
        lines.append(f"γ of {_words(tuned)} {how}.")
    for each in columns:
        if each.entry.default_too and not each.tuned:
            lines.append(f"Plain {each.title} is {each.chain(None)!r}, its default.")
    if at_limit := result.at_limit():
        low, high = GAMMA_LIMITS
        where = ", ".join(
            f"{column(row.chain).title} in {scenario_name(row.scenario)} {attack_of(row.attack).title} "
            f"at ε = {row.eps:g} (γ = {row.gamma:g})"
            for row in at_limit
        )
        lines.append(f"The search ended at a limit, {low:g} or {high:g}: a better γ may lie beyond for {where}.")
    for scenario in s.scenarios:
        for attack in s.attacks:
            lines.append(
                f"{scenario_name(scenario)} {attack_of(attack).title}: {_strongest(result, attack, scenario)}."
            )
    return "\n".join(lines)


def _strongest(result: AuditResult, attack: str, scenario: str) -> str:
    """The strongest chains, those featured that are not among them, and the strongest beside the next, pair by pair."""
    eps, best = result.settings.eps, result.strongest(attack, scenario)
    rows = {chain: result.rate(attack, scenario, chain, eps) for chain in result.chains(attack, scenario)}
    first, *others = sorted(rows, key=lambda chain: -rows[chain].rate.fooled)
    rate = rows[first].rate
    if not rate.correct:
        return "no sample is classified correctly before the attack, so that there is no rate"
    low, high = rate.interval()
    text = f"strongest {' and '.join(column(chain).title for chain in best)}, {rate.percent:.1f} % "
    text += f"(95 % interval {low:.1f} to {high:.1f})"
    for chain in rows:
        if column(chain).featured and chain not in best:
            text += f"; {column(chain).title} {rows[chain].rate.percent:.1f} %"
    if others:
        pair = paired(rows[first], rows[others[0]])
        one, other = column(first).title, column(others[0]).title
        text += f"; {pair.first} samples fooled by {one} and not by {other}, {pair.second} the other way "
        text += f"(McNemar's exact test, p = {pair.p_value:.2g})"
    return text


def _words(words: Sequence[str]) -> str:
    """Words in a row: one, two and three."""
    return " and ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def write_files(result: AuditResult, folder: Path) -> list[Path]:
    """Write the findings: `results.json`, all of them; `results.csv` and `results.parquet`, a row for each cell;
    `samples.parquet`, a row for each sample of each; `asr_against_eps.png` and `examples.png`; and `worst_case.npz` if
    there is one: the adversarial input of each fooled sample, the input itself elsewhere, and which member fooled it.

    :param result: An audit's findings.
    :param folder: Where to; it exists.
    :return: The files' paths.
    :raises ValueError: If the rows are not of the same samples.
    :raises OSError: If one cannot be written; it names the file.
    """
    result.check()
    writers = {
        "results.json": _write_json,
        "results.csv": _write_csv,
        "results.parquet": _write_parquet,
        "samples.parquet": _write_samples,
        "asr_against_eps.png": _draw_rates,
        "examples.png": _draw_examples,
    }
    if result.worst is not None:
        writers["worst_case.npz"] = _write_worst_case
    for name, write in writers.items():
        with replacing(folder / name) as temporary:
            write(result, temporary)
    return [folder / name for name in writers]


def as_dict(result: AuditResult) -> dict[str, Any]:
    """
    :param result: An audit's findings.
    :return: Every number, all settings, seeds and versions, as plain values. `outcomes` has one letter for each sample,
        in the order of `attacked_samples`: f, fooled by the attack; r, not; w, wrong before it.
    """
    return {
        "schema": SCHEMA,
        "settings": asdict(result.settings),
        "target": result.description,
        "seeds": result.seeds,
        "data": result.data,
        "versions": versions(),
        "clean_accuracy": {"target": result.accuracy[0], "second": result.accuracy[1]},
        "attacked_samples": result.attacked,
        "worst_case": None if result.worst is None else _timeless(result.worst.as_dict()),
        "results": [row.as_dict() for row in result.rows],
        "gamma_search": [row.as_dict() for row in result.search],
        "checks": [asdict(check) for check in result.checks],
    }


def _timeless(worst: dict[str, Any]) -> dict[str, Any]:
    """A worst case without what differs from run to run."""
    for member in worst["members"]:
        del member["seconds"]
    return worst


def _write_json(result: AuditResult, path: Path) -> None:
    path.write_text(json_text(as_dict(result)), encoding="utf-8")


def _write_worst_case(result: AuditResult, path: Path) -> None:
    worst = result.worst
    assert worst is not None
    with path.open("wb") as file:
        np.savez_compressed(file, x_adv=worst.x_adv, fooled_by=worst.fooled_by, labels=worst.labels)


def _write_csv(result: AuditResult, path: Path) -> None:
    frame.cells(result).to_csv(path, index=False, encoding="utf-8")


def _write_parquet(result: AuditResult, path: Path) -> None:
    frame.cells(result).to_parquet(path, index=False)


def _write_samples(result: AuditResult, path: Path) -> None:
    frame.samples(result).to_parquet(path, index=False)


def _figure(columns: int, rows: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure that needs no screen and touches no global state of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _draw_rates(result: AuditResult, path: Path) -> None:
    settings = result.settings
    figure, axes = _figure(len(settings.attacks), 1, 5.2 * len(settings.attacks) + 1.4, 4.4)
    chains = list(dict.fromkeys(row.chain for row in result.rows))
    markers = dict(
        zip([*COLUMNS, *(chain for chain in chains if chain not in COLUMNS)], cycle("vsoPD*^X"), strict=False)
    )
    for axis, attack in zip(axes[0], settings.attacks, strict=True):
        for chain in result.chains(attack, "WBA"):
            rates = [result.rate(attack, "WBA", chain, eps).rate.percent for eps in settings.all_eps()]
            style = {"linewidth": 2.6, "zorder": 3} if column(chain).featured else {"linewidth": 1.2}
            axis.plot(settings.all_eps(), rates, marker=markers[chain], label=column(chain).title, **style)
        axis.axvline(settings.eps, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=f"{attack_of(attack).title}, white-box", xlabel="ε, on the data's scale", ylim=(-2, 102))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("attack success rate (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=150)


def _draw_examples(result: AuditResult, path: Path) -> None:
    """One row of clean images, and one of adversarial images for each chain."""
    settings = result.settings
    rows = list(result.examples)
    columns = len(result.examples["clean"])
    figure, axes = _figure(columns, len(rows), 1.0 * columns + 1.6, 1.05 * len(rows) + 0.6)
    attack = attack_of(settings.attacks[-1]).title
    figure.suptitle(f"Clean inputs and their adversarial ones: white-box {attack}, ε = {settings.eps:g}")
    brightest = max(1.0, float(result.examples["clean"].max()))
    for line, name in zip(axes, rows, strict=True):
        for axis, image in zip(line, result.examples[name], strict=True):
            axis.imshow(_picture(image / brightest), cmap="gray", vmin=0.0, vmax=1.0)
            axis.set(xticks=[], yticks=[])
        label = name if name == "clean" else column(name).title
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.savefig(path, dpi=110)


def _picture(x: np.ndarray) -> np.ndarray:
    """An input as a grey or colour picture: of a recording, the mean of its frames, of both polarities."""
    x = x.mean(0) if x.ndim == 4 else x
    return np.clip(x.transpose(1, 2, 0) if len(x) == 3 else x.mean(0), 0.0, 1.0)
