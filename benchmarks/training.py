"""What mixed precision and channels-last do to an STBP training step: `python -m benchmarks.training --help`.

Ratios within one run, as in :mod:`benchmarks.gradient`.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import networks
from benchmarks.gradient import rounds_of


def step(network: nn.Module, x: torch.Tensor, y: torch.Tensor, mixed_precision: bool) -> None:
    """Forward and backward pass of one batch."""
    network.zero_grad()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=mixed_precision):
        logits = network(x)
    nn.functional.cross_entropy(logits, y).backward()


@click.command(help="Time of a training step in mixed precision and channels-last, in ratio to a plain one.")
@click.option("--network", type=click.Choice(sorted(networks.NETWORKS)), default="vgg11", show_default=True)
@click.option("--width", type=click.FloatRange(min=0, min_open=True), default=0.25, show_default=True)
@click.option("--time-steps", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--batch", type=click.IntRange(min=2), default=64, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
def main(network: str, width: float, time_steps: int, batch: int, rounds: int, device: str) -> None:
    y = torch.arange(batch, device=device) % 10
    candidates: dict[str, Callable[[], None]] = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        built = networks.build(network, time_steps, width).train().to(device=device, memory_format=layout)
        x = torch.rand(batch, 3, 32, 32).to(device=device, memory_format=layout)
        for mixed in (False, True):
            name = " ".join([str(layout).removeprefix("torch."), "bfloat16" if mixed else "float32"])
            candidates[name] = lambda built=built, x=x, mixed=mixed: step(built, x, y, mixed)
    figures = rounds_of(candidates, rounds, f"{network}, T = {time_steps}")
    view = Table("", "seconds", "ratio", title=f"{network}, width {width:g}, T = {time_steps}, batch {batch}, {device}")
    for name, figure in figures.items():
        view.add_row(name, f"{figure['seconds']:.3f}", f"{figure['ratio']:.2f}")
    Console().print(view)


if __name__ == "__main__":
    main()
