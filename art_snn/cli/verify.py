"""`art-snn verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from art_snn.cli.program import need, plain_errors

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("entry", type=FILE)
@click.argument("x_adv", type=FILE)
@click.option(
    "--network",
    required=True,
    help="The network: network.json, module:function or file.py:function. It is not taken from the entry, which may be "
    "anybody's.",
)
@click.option("--data", help="Its data set, or a file .npz with test samples x and y.  [default: what the entry names]")
@click.option("--root", help="Folder of the data set.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), default="cpu", help="Where the network runs.")
def verify(entry: Path, x_adv: Path, network: str, data: str | None, root: str | None, device: str) -> None:
    """Check a leaderboard entry: the file ENTRY, and the adversarial inputs X_ADV, worst_case.npz of an audit.

    Looks at ball, range and labels in the arrays, and at what the network predicts for clean and adversarial inputs.
    The exit code is 0 if all that is claimed holds, and 1 if not.
    """
    with plain_errors():
        need(device)
        checks, said = _verified(entry, x_adv, network, data, root, device)
        width = max(len(check.claim) for check in checks)
        for check in checks:
            click.echo(f"{'holds' if check.holds else 'FAILS'}  {check.claim:<{width}}  {check.words}")
        for note in said:
            click.echo(note)
        failed = [check.claim for check in checks if not check.holds]
        if failed:
            click.echo(f"{len(failed)} of {len(checks)} claims do not hold: {', '.join(failed)}.")
            raise click.exceptions.Exit(1)
        click.echo(f"All {len(checks)} claims hold.")


def _verified(
    entry: Path, x_adv: Path, network: str, data: str | None, root: str | None, device: str
) -> tuple[list[Any], list[str]]:
    """The checks, and what else to know; what cannot be used names its argument."""
    import numpy as np

    from art_snn.audit import entry as entries
    from art_snn.audit import verify as verification
    from art_snn.audit.subjects import loaded

    plain = _used("ENTRY", entries.BadEntry, entries.read, entry)
    adversarial = _used("X_ADV", entries.BadEntry, entries.read_adversarial, x_adv)
    hint = "--root" if root is not None else "--data"
    clean = _used(hint, (ValueError, OSError), verification.samples, plain, data, root)
    y = np.zeros((len(clean.x), plain["classes"]), dtype=np.float32)
    low, high = plain["clip_values"]
    clip = None if low is None else (np.asarray(low), np.asarray(high))
    classifier = _used("--network", (ValueError, OSError), loaded, "network", network, clean.x, y, clip, device)
    return verification.verify(plain, adversarial, classifier, clean), verification.notes(plain, classifier)


def _used(name: str, errors: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function makes of arguments; an error of that kind names the argument of the command."""
    try:
        return function(*arguments)
    except errors as error:
        raise click.BadParameter(str(error), param_hint=name) from None
