"""`art-snn train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from art_snn.cli.options import SettingsCommand
from art_snn.cli.program import checked, data_at_root, need, plain_errors, writable
from art_snn.terminal import check_interrupt


def _settings() -> type:
    from art_snn.training import TrainSettings

    return TrainSettings


@click.command(cls=SettingsCommand, settings=_settings)
@click.option("--download", is_flag=True, help="Download the data set to --root if it is not there.")
@click.option("--tensorboard", is_flag=True, help="Write figures for TensorBoard to the output folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoint and network.")
def train(out: Path, tensorboard: bool, download: bool, **options: Any) -> None:
    """Train a spiking network, plain or adversarially.

    Kill it at any moment and give the same command again: it goes on, to the same final weights. Under torchrun the
    processes share each batch. The folder holds network.json and network.safetensors in the end, for
    art_snn.models.load_network and art-snn audit.
    """
    with plain_errors(f"Give the same command again to go on from {out}."):
        settings = checked(_settings(), options)
        need(settings.device)
        with data_at_root():
            _run_training(settings, writable(out), tensorboard=tensorboard, download=download)


def _run_training(settings: Any, out: Path, **options: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from art_snn.training import Epoch
    from art_snn.training import train as run

    check_interrupt()
    leads = os.environ.get("RANK", "0") == "0"
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, quiet=not leads)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    seconds: list[float] = []
    with Progress(*columns, console=Console(stderr=True, quiet=not leads)) as progress:
        bar = progress.add_task("reading data", total=None, loss="")

        def started(epoch: int, steps: int) -> None:
            check_interrupt()
            progress.reset(bar, total=steps, description=f"epoch {epoch}/{settings.epochs}", loss="")

        def stepped(step: int, loss: float) -> None:
            check_interrupt()
            progress.update(bar, completed=step, loss=f"loss {loss:.3f}")

        def finished(epoch: Epoch) -> None:
            check_interrupt()
            seconds.append(epoch.seconds)
            left = (settings.epochs - epoch.epoch) * sum(seconds) / len(seconds)
            console.print(
                f"epoch {epoch.epoch:>3}  loss {epoch.loss:.3f}  learned {epoch.accuracy:6.1%}  "
                f"held out {epoch.held_out:6.1%}  robust {epoch.robust:6.1%}  {epoch.seconds:.1f} s, "
                f"{left / 60:.1f} min left",
                soft_wrap=True,
            )

        result = run(settings, out, started=started, stepped=stepped, finished=finished, **options)
    console.print(
        f"test accuracy {result.accuracy:.1%}; under {settings.robust_under.title}, ε = {settings.eps:.4g}, "
        f"{result.robust:.1%} of {settings.held_out} test samples; wrote {result.path}",
        soft_wrap=True,
        markup=False,
    )
    if result.rates:
        rates = ", ".join(f"{rate:.2f}" for rate in result.rates.values())
        console.print(f"firing rates, layer by layer: {rates}", soft_wrap=True)
