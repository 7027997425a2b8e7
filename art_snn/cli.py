"""The `art-snn` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from art_snn._version import __version__


@contextmanager
def plain_errors(interrupted: str = "Interrupted.") -> Iterator[None]:
    """Messages instead of tracebacks: exit code 1, or 130 for an interruption.

    :param interrupted: What to say when the user interrupts.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{interrupted}", err=True)
        sys.exit(130)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if os.environ.get("ART_SNN_DEBUG"):
            raise
        raise click.ClickException(f"{error or type(error).__name__}") from None


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """A comma-separated list of numbers."""
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers separated by commas, got {value!r}.") from None


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated list of names."""
    return None if value is None else tuple(part.strip().lower() for part in value.split(",") if part.strip())


def writable(folder: Path) -> Path:
    """
    :param folder: A folder for results.
    :return: It, after it was made and tried.
    :raises click.BadParameter: If nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be written to: {error.strerror}.", param_hint="--out") from None
    return folder


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="art-snn")
def main() -> None:
    """Attacks on spiking neural networks, through the Adversarial Robustness Toolbox."""


@main.command()
@click.option("--eps", type=float, default=0.15, help="ε of the tables (L∞), on the data's scale [0, 1].")
@click.option("--sweep", callback=numbers, default="0.05,0.1,0.2,0.25", help="Further ε of the figure.")
@click.option("--attacks", callback=names, default="fgsm,pgd", help="Of fgsm, pgd.")
@click.option("--steps", type=int, default=5, help="Steps of PGD.")
@click.option("--step-size", type=float, default=None, help="Step of PGD, on the data's scale.  [default: ε/4]")
@click.option(
    "--chains",
    callback=names,
    default="cba,bptr,stbp,stbp-best,rga,hart,rate,mixed",
    help="Backward chains; stbp-best is STBP with its γ chosen as HART's is.",
)
@click.option("--gamma", type=float, default=None, help="γ of HART.  [default: chosen on held-out samples]")
@click.option("--time-steps", type=int, default=8, help="Number of time steps T.")
@click.option("--decay", type=float, default=0.9, help="Membrane factor λ; 1 is the IF neuron.")
@click.option("--reset", default="hard", help="hard or soft.")
@click.option("--encoder", default="direct", help="direct or poisson.")
@click.option("--epochs", type=int, default=20, help="Epochs of training.")
@click.option("--samples", type=int, default=500, help="Test samples to attack, at most 609.")
@click.option("--seed", type=int, default=0, help="Seed of data split and target; the second network's is one higher.")
@click.option("--device", default="cpu", help="cpu or gpu.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("art-snn-audit"), help="Folder for results.")
def audit(out: Path, **options: Any) -> None:
    """Attack a spiking network under every backward chain.

    Trains a small spiking network and a second one of the same shape on the embedded digits, then attacks the first
    with ART's FGSM and PGD, white-box (gradient of the network itself) and black-box (gradient of the second), and
    prints the attack success rates. Trained networks are kept in the output folder: the same settings do not train
    again.
    """
    with plain_errors(f"Interrupted. Networks that were trained completely are kept in {out}; run it again to go on."):
        from art_snn.audit.settings import AuditSettings

        try:
            settings = AuditSettings(**options)
        except ValueError as error:
            name = "--" + str(error).split()[0].replace("_", "-")
            raise click.BadParameter(str(error), param_hint=name) from None
        if settings.device == "gpu":
            _need_gpu()
        kept = writable(writable(out) / "networks")
        _run_audit(settings, kept, out)


def _need_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise click.BadParameter("device is 'gpu', but torch finds no GPU.", param_hint="--device")


def _run_audit(settings: Any, kept: Path, out: Path) -> None:
    from rich.console import Console

    from art_snn.audit import report, run_audit

    with _progress() as (start, advance):
        result = run_audit(settings, kept, start, advance)
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(report.headline(result), soft_wrap=True)
    for scenario in ("WBA", "BBA"):
        console.print()
        console.print(report.table(result, scenario))
    console.print()
    console.print(report.verdict(result), soft_wrap=True)
    for path in report.write_files(result, out):
        console.print(f"wrote {path}", soft_wrap=True)


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
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def start(what: str, total: int) -> None:
            for task in progress.tasks:
                progress.update(task.id, completed=task.total)
            progress.add_task(what, total=total)

        yield start, lambda: progress.advance(progress.tasks[-1].id)


if __name__ == "__main__":
    main()
