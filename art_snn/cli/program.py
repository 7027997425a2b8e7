"""What the commands share: streams and interrupts, messages instead of tracebacks, checks of options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

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


@contextmanager
def data_at_root() -> Iterator[None]:
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


def checked(make: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Settings, or an error that names the option."""
    try:
        return make(**options)
    except ValueError as error:
        name = "--" + str(error).split()[0].replace("_", "-")
        raise click.BadParameter(str(error), param_hint=name) from None


def need(device: str) -> None:
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise click.BadParameter("device is 'gpu', but torch finds no GPU.", param_hint="--device")
