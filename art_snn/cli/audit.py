"""`art-snn audit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from art_snn.cli.options import SettingsCommand
from art_snn.cli.program import checked, data_at_root, need, plain_errors, writable
from art_snn.terminal import check_interrupt


def _settings() -> type:
    from art_snn.audit.settings import AuditSettings

    return AuditSettings


def network(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The description of a network on disk."""
    if value is not None:
        from art_snn.models import describe

        try:
            describe(value)
        except (OSError, ValueError) as error:
            raise click.BadParameter(str(error)) from None
    return value


def second(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A network on disk, or a function that gives one."""
    return value if value is not None and ":" in value else network(context, parameter, value)


@click.command(cls=SettingsCommand, settings=_settings, callbacks={"target": network, "second": second})
@click.option("--out", type=click.Path(path_type=Path), default=Path("art-snn-audit"), help="Folder for results.")
def audit(out: Path, **options: Any) -> None:
    """Attack a spiking network under every backward chain.

    Takes your own --network, or the networks --target and --second that art-snn train wrote, or else trains two small
    ones of the same shape on the embedded digits. Attacks the first with ART's FGSM and PGD, white-box (gradient of the
    network itself) and black-box (gradient of the second), and prints the attack success rates; first of all the worst
    case, sample by sample, over the strongest attacks that are known. Networks that it
    trained are kept in the output folder: the same settings do not train again. Interrupt it, give the same command,
    and it goes on with the attack that was not finished.
    """
    with plain_errors(f"What was finished is kept in {out}: give the same command again to go on."):
        from art_snn.files import held

        settings = checked(_settings(), options)
        need(settings.device)
        kept = writable(writable(out) / "networks")
        with held(out), data_at_root():
            _run_audit(settings, kept, out)


def _run_audit(settings: Any, kept: Path, out: Path) -> None:
    from rich.console import Console

    from art_snn.audit import report, run_audit

    check_interrupt()
    written: list[Path] = []

    def write(result: Any) -> None:
        check_interrupt()
        written.extend(report.write_files(result, out))
        check_interrupt()

    with _progress() as (start, advance):
        result = run_audit(settings, kept, start, advance, write)
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(report.headline(result), soft_wrap=True, markup=False)
    if result.worst is not None:
        console.print(report.worst_case(result), soft_wrap=True, markup=False)
    for scenario in result.settings.scenarios:
        console.print()
        console.print(report.table(result, scenario))
    console.print()
    console.print(report.verdict(result), soft_wrap=True, markup=False)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True, markup=False)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str, int], None], Callable[[], None]]]:
    """A progress bar on the error stream, one line a stage: how to start a stage, and how to advance it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:

        def start(what: str, total: int) -> None:
            check_interrupt()
            for task in progress.tasks:
                progress.update(task.id, completed=task.total)
            progress.add_task(what, total=total)
            if not console.is_terminal:  # a file shows the bars in the end only
                console.print(f"{what}: {total} steps", highlight=False)

        def advance() -> None:
            check_interrupt()
            progress.advance(progress.tasks[-1].id)

        yield start, advance
