"""Memory that a training step takes for each sample: `python -m benchmarks.memory --help`.

*measured* is the growth of a process's peak memory from a smaller to a larger batch, divided by the samples between
them; *kept* is what `art_snn.training` computes beforehand from the tensors that are kept for the backward pass, on
which its check of the batch size rests.
"""

from __future__ import annotations

import subprocess
import sys

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from art_snn import models
from art_snn.training import bytes_per_sample
from benchmarks.gradient import peak_resident_mib

SHAPES = {"vgg11": (3, 32, 32), "resnet17": (3, 32, 32), "vgg_dvs": (2, 48, 48)}
TIME_STEPS = {"vgg11": (4, 8), "resnet17": (4, 8), "vgg_dvs": (10,)}


def step(name: str, time_steps: int, width: float, batch: int) -> None:
    """One STBP training step, and this process's peak memory in MiB."""
    network, x, y = build(name, time_steps, width, batch)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    nn.functional.cross_entropy(network(x), y).backward()
    optimizer.step()
    print(peak_resident_mib())


def build(name: str, time_steps: int, width: float, batch: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    frames = (time_steps,) if name == "vgg_dvs" else ()
    network = getattr(models, name)(time_steps=time_steps, width=width).train()
    return network, torch.rand(batch, *frames, *SHAPES[name]), torch.arange(batch) % 10


def peak(name: str, time_steps: int, width: float, batch: int) -> float:
    code = f"from benchmarks.memory import step; step({name!r}, {time_steps}, {width}, {batch})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


@click.command(help="Memory of a training step for each sample, measured and as the check computes it.")
@click.option("--width", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--batches", nargs=2, type=click.IntRange(min=2), default=(16, 48), show_default=True)
def main(width: float, batches: tuple[int, int]) -> None:
    view = Table(title=f"MiB a sample, width {width:g}")
    for column in ("network", "T", "measured", "kept"):
        view.add_column(column, justify="left" if column == "network" else "right")
    cases = [(name, time_steps) for name in SHAPES for time_steps in TIME_STEPS[name]]
    for name, time_steps in track(cases, console=Console(stderr=True), transient=True):
        few, many = (peak(name, time_steps, width, batch) for batch in batches)
        kept = bytes_per_sample(*build(name, time_steps, width, 2)) / 2**20
        view.add_row(name, str(time_steps), f"{(many - few) / (batches[1] - batches[0]):.1f}", f"{kept:.1f}")
    Console().print(view)


if __name__ == "__main__":
    main()
