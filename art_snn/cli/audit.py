"""`art-snn audit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from art_snn.cli.options import SettingsCommand
from art_snn.cli.program import checked, data_at_root, need, plain_errors, writable
from art_snn.cli.progress import progress
from art_snn.cli.report import show
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


#: Exit code of a strict audit whose figures cannot be trusted.
FLAGGED = 3


@click.command(cls=SettingsCommand, settings=_settings, callbacks={"target": network, "second": second})
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A TOML file with settings, by the options' names; an option that is given goes before.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be run, and about how long it takes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("art-snn-audit"), help="Folder for results.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes that attack at once.  [default: as many as there are cores; 1 on a GPU]",
)
@click.option("--cluster", help="Address of a Dask cluster's scheduler, whose workers attack instead.")
@click.option("--strict", is_flag=True, help="Exit with code 3 if a check speaks against the figures.")
@click.option("--entry", help="Write entry.json too, a leaderboard entry of that name, for art-snn verify.")
@click.option("--reported", type=float, help="Robust accuracy that others reported, in per cent, for the entry.")
@click.pass_context
def audit(
    context: click.Context,
    config: Path | None,
    dry_run: bool,
    out: Path,
    jobs: int | None,
    cluster: str | None,
    strict: bool,
    entry: str | None,
    reported: float | None,
    **options: Any,
) -> None:
    """Attack a spiking network under every backward chain.

    Takes your own --network, or the networks --target and --second that art-snn train wrote, or else trains two small
    ones of the same shape on the embedded digits. Attacks the first with ART's FGSM and PGD, white-box (gradient of the
    network itself) and black-box (gradient of the second), and prints the attack success rates; first of all the worst
    case, sample by sample, over the strongest attacks that are known. What is finished is kept in the output folder,
    attack by attack, trained networks too: interrupt it, give the same command, or one that asks for more, and what is
    missing is computed.
    """
    with plain_errors(f"What was finished is kept in {out}: give the same command again to go on."):
        settings = _read(context, config, options)
        need(settings.device)
        _check_entry(settings, entry, reported)
        with data_at_root():
            if dry_run:
                _forecast(settings, jobs)
            else:
                trusted = _run_audit(settings, writable(out), jobs, cluster, entry, reported)
                if strict and not trusted:
                    context.exit(FLAGGED)


def _read(context: click.Context, config: Path | None, options: dict[str, Any]) -> Any:
    """The settings: options that are given, then the file's, then defaults."""
    if config is None:
        return checked(_settings(), options)
    from art_snn.audit.config import ConfigError, located, read

    try:
        found = read(config, _settings())
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    given = context.get_parameter_source
    found = {name: value for name, value in found.items() if given(name) is not ParameterSource.COMMANDLINE}
    try:
        return _settings()(**options | found)
    except ValueError as error:
        if (said := located(config, error, found)) is not None:
            raise click.UsageError(str(said)) from None
        return checked(_settings(), options | found)


def _forecast(settings: Any, jobs: int | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from art_snn.audit.forecast import forecast, total
    from art_snn.audit.parallel import processes
    from art_snn.audit.subjects import subjects_of

    lines = forecast(settings, subjects_of(settings, None))
    cells = sum(line.cells for line in lines)
    number = processes(jobs, cells, settings.device)
    view = Table(title=f"{cells} cells, {number} at once", title_justify="left")
    for name in ("attack", "scenario", "chain", "cells", "gradients", "about"):
        view.add_column(name, justify="right" if name in ("cells", "gradients", "about") else "left")
    for line in lines:
        gradients = "not known" if line.gradients is None else str(line.gradients)
        seconds = "not known" if line.seconds is None else f"{line.seconds:.1f} s"
        view.add_row(line.attack, line.scenario, line.chain, str(line.cells), gradients, seconds)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(view, markup=False)
    unknown = sum(line.seconds is None for line in lines)
    at_once = f"{number} process{'es' if number > 1 else ''}"
    console.print(
        f"About {total(lines, number):.0f} s in {at_once}, training aside; of the worst case at most so long, as if no "
        "sample were ever fooled." + (f" {unknown} lines are not in it." if unknown else ""),
        soft_wrap=True,
    )


def _check_entry(settings: Any, entry: str | None, reported: float | None) -> None:
    """What an entry wants is said before an audit runs, not after."""
    from art_snn.audit.settings import NO_PLAN

    if entry is not None and settings.plan == NO_PLAN:
        raise click.BadParameter("an entry is of the worst case: plan must not be none.", param_hint="--entry")
    if reported is not None and entry is None:
        raise click.BadParameter("reported belongs to entry.", param_hint="--reported")
    if reported is not None and not 0.0 <= reported <= 100.0:
        raise click.BadParameter(f"reported must be from 0 to 100, got {reported:g}.", param_hint="--reported")


def _run_audit(
    settings: Any, out: Path, jobs: int | None, cluster: str | None, entry: str | None, reported: float | None
) -> bool:
    """Whether nothing speaks against the figures."""
    from art_snn.audit import files, run_audit

    check_interrupt()
    written: list[Path] = []

    def write(result: Any) -> None:
        check_interrupt()
        written.extend(files.write_files(result, out))
        if entry is not None:
            from art_snn.audit import entry as entries

            plain = entries.of_audit(result, name=entry, reported=reported)
            written.append(entries.write(plain, out / "entry.json"))
        check_interrupt()

    with progress() as (start, advance):
        result = run_audit(settings, out, start, advance, write, jobs=jobs, cluster=cluster)
    show(result, written)
    return not result.flags
