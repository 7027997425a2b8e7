"""`art-snn suite`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from art_snn.cli.options import SettingsCommand
from art_snn.cli.program import checked, data_at_root, need, plain_errors, writable
from art_snn.cli.progress import progress
from art_snn.terminal import check_interrupt

#: The suite that attacks nothing.
THEORY = "theory"


def _settings() -> type:
    from art_snn.suites import SuiteSettings

    return SuiteSettings


@click.command(cls=SettingsCommand, settings=_settings)
@click.argument("name")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that attack at once.  [default: one for each core]")
@click.option("--cluster", help="Address of a Dask cluster's scheduler, whose workers attack instead.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("art-snn-suites"), help="Folder for results.")
def suite(name: str, jobs: int | None, cluster: str | None, out: Path, **options: Any) -> None:
    """Run an experiment of the paper on the data that are there, beside the paper's own figures.

    NAME is table1 to table5, tableA1 to tableA4, fig3, events, ann or theory; "list" says what each is. Networks are
    trained as they are needed and kept in the output folder, for the other suites too, as is every finished attack:
    the same command goes on where it stopped.
    """
    with plain_errors(f"What was finished is kept in {out}: give the same command again to go on."):
        from art_snn.suites import SUITES
        from art_snn.suites.run import check_suite

        if name == "list":
            for each in SUITES.values():
                click.echo(f"{each.name:8} {each.title}.")
            click.echo(f"{THEORY:8} What each layer keeps of time (χ, Eq. 12), beside Theorems 1 and 2.")
            return
        if name not in (*SUITES, THEORY):
            known = ", ".join((*SUITES, THEORY))
            raise click.BadParameter(f"must be one of {known}, or list, got {name!r}.", param_hint="NAME")
        settings = checked(_settings(), options)
        if name != THEORY:
            checked(lambda **_: check_suite(name, settings), {})
        need(settings.device)
        with data_at_root():
            _run(name, settings, writable(out), jobs, cluster)


def _run(name: str, settings: Any, out: Path, jobs: int | None, cluster: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from art_snn.suites import run_suite
    from art_snn.suites.run import markdown
    from art_snn.suites.theory import TITLE, run_theory, shown

    check_interrupt()
    with progress() as (start, advance):
        if name == THEORY:
            found, title = shown(run_theory(settings, out, start, advance)), TITLE
        else:
            result = run_suite(name, settings, out, start, advance, jobs=jobs, cluster=cluster)
            found, title = result.table(), markdown(result).splitlines()[0]
    view = Table(title=title, title_justify="left")
    for title in found.columns:
        view.add_column(str(title))
    for row in found.astype(str).to_numpy().tolist():
        view.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(view, markup=False)
    console.print(f"wrote {out / name}.csv, .parquet, .json and .md", soft_wrap=True, markup=False)
