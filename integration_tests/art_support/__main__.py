"""`python -m integration_tests.art_support`: run everything, and write `docs/art_support.md`."""

from __future__ import annotations

import logging
import sys
import warnings

import click
from rich.console import Console
from rich.progress import track

from art_snn.files import replacing
from integration_tests.art_support.sweep import FAILS, TABLE, tasks, written


@click.command(help="Run all of ART on a spiking network and write docs/art_support.md.")
@click.option("--only", default="", help="Only print the rows whose name contains this; nothing is written.")
def main(only: str) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    chosen = [task for task in tasks() if only.lower() in task.name.lower()]
    rows = []
    for task in track(chosen, "ART", console=Console(stderr=True)):
        rows.append(task.row())
        click.echo(f"{rows[-1].seconds:6.1f} s  {rows[-1].name}: {rows[-1].status}  {rows[-1].note}")
    if not only:
        with replacing(TABLE) as temporary:
            temporary.write_text(written(rows), encoding="utf-8")
    sys.exit(any(row.status == FAILS for row in rows))


if __name__ == "__main__":
    main()
