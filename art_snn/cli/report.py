"""`art-snn report`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from art_snn.cli.program import plain_errors
from art_snn.files import held
from art_snn.terminal import check_interrupt


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report(folder: Path) -> None:
    """Draw an audit's tables, figures and report.html again, from the findings in its FOLDER: nothing is computed."""
    with plain_errors(), held(folder):
        from art_snn.audit import files

        result = files.load(folder)
        check_interrupt()
        written = files.draw(result, folder)
        check_interrupt()
        show(result, written)


def show(result: Any, written: Iterable[Path]) -> None:
    """
    :param result: An audit's findings, which are printed.
    :param written: The files that were written, which are named.
    """
    from rich.console import Console

    from art_snn.audit import report as words

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(words.headline(result), soft_wrap=True, markup=False)
    if result.checks:
        console.print(words.flags(result), soft_wrap=True, markup=False)
    if result.worst is not None:
        console.print(words.worst_case(result), soft_wrap=True, markup=False)
    for scenario in result.settings.scenarios:
        console.print()
        console.print(words.table(result, scenario))
    console.print()
    console.print(words.verdict(result), soft_wrap=True, markup=False)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True, markup=False)
