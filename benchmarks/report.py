"""The figures of `benchmarks.gradient` as tables of docs/benchmark.md: `python -m benchmarks.report FIGURES.json`."""

from __future__ import annotations

import json
from pathlib import Path

import click

NAMES = {"vgg11": "VGG-11", "resnet17": "ResNet-17"}


def rows(results: list[dict]) -> list[str]:
    """
    :param results: One network's figures, one entry for each T.
    :return: A table: ratios to `predict`, and of training steps to STBP's; peak memory beyond `predict`'s below them.
    """
    columns = [result["figures"] for result in results]
    lines = [
        "| | " + " | ".join(f"T = {result['time_steps']}" for result in results) + " |",
        "| --- |" + " --- |" * len(results),
        "| `predict`, seconds | " + " | ".join(f"{column['predict']['seconds']:.2f}" for column in columns) + " |",
    ]
    for name in columns[0]:
        if name not in ("predict", "STBP training step"):
            lines.append(f"| {name} | " + " | ".join(f"{column[name]['ratio']:.2f}" for column in columns) + " |")
    for name in columns[0]:
        if name != "predict" and "peak_mib" in columns[0][name]:
            extra = [column[name]["peak_mib"] / column["predict"]["peak_mib"] - 1 for column in columns]
            lines.append(f"| peak memory, {name} | " + " | ".join(f"{part:+.0%}" for part in extra) + " |")
    return lines


@click.command(help="Print the tables of docs/benchmark.md.")
@click.argument("figures", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(figures: Path) -> None:
    report = json.loads(figures.read_text(encoding="utf-8"))
    machine, first = report["machine"], report["results"][0]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    device = machine["gpu"] if first["device"] == "gpu" else f"{machine['threads']} CPU threads"
    click.echo(f"Batch {first['batch']}, {device}, {report['rounds']} rounds; {versions}.")
    for network in dict.fromkeys(result["name"] for result in report["results"]):
        results = [result for result in report["results"] if result["name"] == network]
        rates = [rate for result in results for rate in result["firing_rates"]]
        click.echo(f"\n## {NAMES[network]}\n\nFiring rates of the layers {min(rates):.2f} to {max(rates):.2f}.\n")
        click.echo("\n".join(rows(results)))


if __name__ == "__main__":
    main()
