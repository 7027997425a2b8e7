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
from art_snn.terminal import check_interrupt, noting_interrupts, replace_unencodable


class Program(click.Group):
    """The commands, each run with streams that take every letter, and with interrupts that are not lost."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        replace_unencodable()
        with noting_interrupts():
            return super().main(*args, **kwargs)

    def invoke(self, context: click.Context) -> Any:
        with plain_errors():  # what comes while a command's options are read
            return super().invoke(context)


@contextmanager
def plain_errors(kept: str = "") -> Iterator[None]:
    """Messages instead of tracebacks: exit code 1, or 130 for an interruption.

    :param kept: What of an interrupted run is kept, and how to go on, if something is.
    """
    try:
        yield
        check_interrupt()
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. {kept}".rstrip(), err=True)
        sys.exit(130)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if os.environ.get("ART_SNN_DEBUG"):
            raise
        if isinstance(error, OSError) and error.filename and error.strerror:
            hint = "" if isinstance(error, FileNotFoundError) else f" {kept}"  # a disk is full, a folder forbidden
            raise click.ClickException(f"{error.filename}: {error.strerror}.{hint}".rstrip()) from None
        raise click.ClickException(f"{error or type(error).__name__}") from None


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """A comma-separated list of numbers."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers separated by commas, got {value!r}.") from None


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated list of names."""
    return None if value is None else tuple(part.strip().lower() for part in value.split(",") if part.strip())


def network(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The description of a network on disk."""
    if value is not None:
        from art_snn.models import describe

        try:
            describe(value)
        except (OSError, ValueError) as error:
            raise click.BadParameter(str(error)) from None
    return value


@contextmanager
def _data_at_root() -> Iterator[None]:
    """Errors of a data set that is not there name the option that says where it is."""
    from art_snn.training.data import MissingData

    try:
        yield
    except MissingData as error:
        raise click.BadParameter(str(error), param_hint="--root") from None


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


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="art-snn")
def main() -> None:
    """Attacks on spiking neural networks, through the Adversarial Robustness Toolbox."""


@main.command()
@click.option(
    "--target", callback=network, default=None, help="network.json of art-snn train: audit that network instead."
)
@click.option(
    "--second", callback=network, default=None, help="One trained like it with another seed; needed with --target."
)
@click.option("--root", default=None, help="Folder of their data set.  [default: where it was in training]")
@click.option("--eps", type=float, default=0.15, help="ε of the tables (L∞), on the data's scale.")
@click.option("--sweep", callback=numbers, default=None, help="Further ε of the figure.  [default: thirds of ε]")
@click.option("--attacks", callback=names, default="fgsm,pgd", help="Of fgsm, pgd.")
@click.option("--steps", type=int, default=5, help="Steps of PGD.")
@click.option("--step-size", type=float, default=None, help="Step of PGD, on the data's scale.  [default: ε/4]")
@click.option(
    "--chains",
    callback=names,
    default="cba,bptr,stbp,stbp-best,rga,hart,rate,mixed",
    help="Backward chains; stbp-best is STBP with its γ chosen as HART's is.",
)
@click.option(
    "--gamma",
    type=float,
    default=None,
    help="γ of HART, alone and mixed, and of stbp-best.  [default: chosen on held-out samples]",
)
@click.option("--time-steps", type=int, default=8, help="Number of time steps T.")
@click.option("--decay", type=float, default=0.9, help="Membrane factor λ; 1 is the IF neuron.")
@click.option("--reset", default="hard", help="hard or soft.")
@click.option("--encoder", default="direct", help="direct or poisson.")
@click.option("--epochs", type=int, default=20, help="Epochs of training.")
@click.option("--samples", type=int, default=500, help="Test samples to attack, of the digits at most 609.")
@click.option("--seed", type=int, default=0, help="Seed of data split and target; the second network's is one higher.")
@click.option("--device", default="cpu", help="cpu or gpu.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("art-snn-audit"), help="Folder for results.")
def audit(out: Path, **options: Any) -> None:
    """Attack a spiking network under every backward chain.

    Takes the networks --target and --second that art-snn train wrote, or else trains two small ones of the same shape
    on the embedded digits. Attacks the first with ART's FGSM and PGD, white-box (gradient of the network itself) and
    black-box (gradient of the second), and prints the attack success rates. Networks that it trained are kept in the
    output folder: the same settings do not train again. Interrupt it, give the same command, and it goes on with the
    attack that was not finished.
    """
    with plain_errors(f"What was finished is kept in {out}: give the same command again to go on."):
        from art_snn.audit.settings import AuditSettings
        from art_snn.files import held

        settings = _checked(AuditSettings, options)
        _need(settings.device)
        kept = writable(writable(out) / "networks")
        with held(out), _data_at_root():
            _run_audit(settings, kept, out)


def _checked(make: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Settings, or an error that names the option."""
    try:
        return make(**options)
    except ValueError as error:
        name = "--" + str(error).split()[0].replace("_", "-")
        raise click.BadParameter(str(error), param_hint=name) from None


def _need(device: str) -> None:
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise click.BadParameter("device is 'gpu', but torch finds no GPU.", param_hint="--device")


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
    for scenario in ("WBA", "BBA"):
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


def pair(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Height and width, as `H,W`."""
    if value is None:
        return None
    try:
        height, width = (int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"expected H,W in pixels, got {value!r}.") from None
    return height, width


def number_or_max(context: click.Context, parameter: click.Parameter, value: str | None) -> float | str | None:
    """A number, or `max`."""
    if value is None or value == "max":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"expected max or a number, got {value!r}.") from None


@main.command()
@click.option(
    "--data",
    default="digits",
    help="digits, event-digits (both embedded), cifar10, cifar100, image-folder, nmnist, cifar10dvs or dvsgesture.",
)
@click.option("--root", default=None, help="Folder of a data set that is not embedded.")
@click.option("--limit", type=int, default=None, help="At most so many training and test samples.  [default: all]")
@click.option(
    "--size",
    callback=pair,
    default=None,
    help="H,W of frames or images.  [default: the data set's own; 32,32 of nmnist and event-digits]",
)
@click.option(
    "--scale",
    callback=number_or_max,
    default=None,
    metavar="max|NUMBER",
    help="Divide event frames by this number, so that ε is on [0, 1]; max is their largest value.  [default: counts]",
)
@click.option("--drop-outside", is_flag=True, help="Leave out events outside the sensor, instead of refusing them.")
@click.option("--network", default="small_cnn", help="small_cnn, vgg11, resnet17, or vgg_dvs for event data.")
@click.option("--width", type=float, default=1.0, help="Factor on the channels.")
@click.option("--time-steps", type=int, default=8, help="Number of time steps T.")
@click.option("--decay", type=float, default=0.9, help="Membrane factor λ; 1 is the IF neuron.")
@click.option("--threshold", type=float, default=1.0, help="Firing threshold θ.")
@click.option("--reset", default="hard", help="hard or soft.")
@click.option("--encoder", default="direct", help="direct or poisson, for images.")
@click.option("--spiking/--ann", default=True, help="Spikes, or the same shape with rectifiers.")
@click.option("--epochs", type=int, default=200, help="Epochs.")
@click.option("--batch-size", type=int, default=64, help="Samples of one step, over all processes.")
@click.option(
    "--learning-rate", type=float, default=0.1, help="Initial learning rate of SGD; falls to 0 along a cosine."
)
@click.option("--momentum", type=float, default=0.9, help="Momentum of SGD.")
@click.option("--weight-decay", type=float, default=5e-4, help="Weight decay of SGD.")
@click.option("--augment/--no-augment", default=True, help="Random crops and, where the class allows it, flips.")
@click.option("--attack", default="none", help="Adversarial training: none, fgsm or pgd.")
@click.option(
    "--eps", type=float, default=2.55 / 255, help="ε (L∞) of the attack and the robust accuracy, on the data's scale."
)
@click.option("--steps", type=int, default=5, help="Steps of PGD.")
@click.option("--step-size", type=float, default=None, help="Step of PGD, on the data's scale.  [default: ε/4]")
@click.option("--chain", default="hart", help="Backward chain of the attack.")
@click.option("--gamma", type=float, default=None, help="γ of the attack's chain.  [default: the chain's own]")
@click.option("--training-chain", default="stbp", help="Chain of the weights' gradient: stbp or hart.")
@click.option(
    "--mixed-precision/--full-precision", default=False, help="Learn in bfloat16 but for the neurons, or in float32."
)
@click.option("--held-out", type=int, default=200, help="Training samples kept for the accuracies of each epoch.")
@click.option("--seed", type=int, default=0, help="Seed of weights and order.")
@click.option("--data-seed", type=int, default=0, help="Seed of the data set's split and of the held-out part.")
@click.option("--device", default="cpu", help="cpu or gpu.")
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
        from art_snn.training import TrainSettings

        settings = _checked(TrainSettings, options)
        _need(settings.device)
        with _data_at_root():
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
    attack = "PGD" if settings.attack == "pgd" else "FGSM"
    console.print(
        f"test accuracy {result.accuracy:.1%}; under {attack}, ε = {settings.eps:.4g}, {result.robust:.1%} of "
        f"{settings.held_out} test samples; wrote {result.path}",
        soft_wrap=True,
        markup=False,
    )
    if result.rates:
        rates = ", ".join(f"{rate:.2f}" for rate in result.rates.values())
        console.print(f"firing rates, layer by layer: {rates}", soft_wrap=True)


if __name__ == "__main__":
    main()
