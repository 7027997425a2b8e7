"""The figures of `benchmarks.gradient` as tables of docs/benchmark.md: `python -m benchmarks.report FIGURES.json`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import click

NAMES = {"vgg11": "VGG-11", "resnet17": "ResNet-17"}


def rows(results: list[dict]) -> list[str]:
    """
    :param results: One network's figures, one entry for each T.
    :return: A table: ratios to `predict`, and of training steps to STBP's; peak memory beyond `predict`'s below them.
    """
    columns = [result["figures"] for result in results]
    names = list(dict.fromkeys(name for column in columns for name in column))

    def line(title: str, cell: Callable[[dict], str], name: str) -> str:
        return f"| {title} | " + " | ".join(cell(column) if name in column else "" for column in columns) + " |"

    lines = [
        "| | " + " | ".join(f"T = {result['time_steps']}" for result in results) + " |",
        "| --- |" + " --- |" * len(results),
        line("`predict`, seconds", lambda column: f"{column['predict']['seconds']:.2f}", "predict"),
    ]
    for name in names:
        if name not in ("predict", "STBP training step"):
            lines.append(line(name, lambda column, name=name: f"{column[name]['ratio']:.2f}", name))
    for name in names:
        if name != "predict" and any("peaks_mib" in column.get(name, {}) for column in columns):
            lines.append(line(f"peak memory, {name}", lambda column, name=name: _extra(column, name), name))
    return lines


def _extra(column: dict, name: str) -> str:
    """Peak memory beyond that of `predict`: the processes' median, and the least and largest of them."""
    if "peaks_mib" not in column[name]:
        return ""
    base, peaks = statistics.median(column["predict"]["peaks_mib"]), column[name]["peaks_mib"]
    median, least, largest = (f"{peak / base - 1:+.0%}" for peak in (statistics.median(peaks), min(peaks), max(peaks)))
    return f"{median} ({least} to {largest})"


@click.command(help="Print the tables of docs/benchmark.md.")
@click.argument("figures", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(figures: tuple[Path, ...]) -> None:
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in figures]
    results_of_all = sorted((r for report in reports for r in report["results"]), key=lambda r: r["time_steps"])
    machine, first = reports[0]["machine"], results_of_all[0]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    device = machine["gpu"] if first["device"] == "gpu" else f"{machine['threads']} CPU threads"
    click.echo(f"Batch {first['batch']}, {device}, {min(report['rounds'] for report in reports)} rounds; {versions}.")
    for network in dict.fromkeys(result["name"] for result in results_of_all):
        results = [result for result in results_of_all if result["name"] == network]
        rates = [rate for result in results for rate in result["firing_rates"]]
        click.echo(f"\n## {NAMES[network]}\n\nFiring rates of the layers {min(rates):.2f} to {max(rates):.2f}.\n")
        click.echo("\n".join(rows(results)))


if __name__ == "__main__":
    main()
