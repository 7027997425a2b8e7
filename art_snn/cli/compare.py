"""`art-snn compare`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from art_snn.cli.program import plain_errors


@click.command()
@click.argument("first", metavar="A", type=click.Path(exists=True, path_type=Path))
@click.argument("second", metavar="B", type=click.Path(exists=True, path_type=Path))
@click.option("--markdown", is_flag=True, help="Print it as Markdown.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write it there as JSON.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write its lines as CSV.")
def compare(first: Path, second: Path, markdown: bool, json_file: Path | None, csv_file: Path | None) -> None:
    """Put two audits side by side: the folders A and B that art-snn audit wrote.

    Of two networks, or of one before and after a defence. Attacks that both ran are compared with significance: sample
    by sample where the samples are the same (McNemar's exact test), as two proportions where not (Fisher's exact test
    where counts are small). p is adjusted for the number of tests by Holm's method.
    """
    with plain_errors():
        from rich.console import Console

        from art_snn.audit import compare as side_by_side

        found = side_by_side.compare(side_by_side.read(first), side_by_side.read(second))
        for path, write in ((json_file, side_by_side.write_json), (csv_file, side_by_side.write_csv)):
            if path is not None:
                write(found, path)
        if markdown:
            click.echo(side_by_side.markdown(found))
            return
        console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        console.print(side_by_side.table(found))
        for line in side_by_side.words(found):
            console.print(line, soft_wrap=True, markup=False)
