"""What a call on one sample costs, beside a plain network of the same shape: `python -m benchmarks.calls --help`.

Many of ART's attacks (universal perturbations, saliency maps, decision-based ones) call the classifier for one sample
at a time. Then the arithmetic is small, and what is left is the number of operations: those of the plain network on one
sample, on T samples as the spiking network runs it, of the neurons, of the check of every gradient, and of ART itself.
Ratios within one run, as in :mod:`benchmarks.gradient`.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from rich.console import Console
from rich.table import Table
from torch import nn

from art_snn import LIF, PyTorchSNNClassifier, models
from benchmarks.gradient import rounds_of
from benchmarks.networks import make_it_fire


@torch.no_grad()
def forward(model: nn.Module, x: torch.Tensor) -> None:
    model(x)


@click.command(help="Time of calls on one digit, in ratio to a plain network's prediction.")
@click.option("--time-steps", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--calls", type=click.IntRange(min=1), default=50, show_default=True, help="Calls timed at a time.")
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True)
def main(time_steps: int, calls: int, rounds: int) -> None:
    torch.manual_seed(0)
    network = models.small_cnn(time_steps=time_steps)
    make_it_fire(network, torch.rand(8, 1, 8, 8))
    plain = nn.Sequential(*(nn.ReLU() if isinstance(layer, LIF) else layer for layer in network.body)).eval()
    network.eval()
    classifiers = {
        kind: made(model, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")
        for kind, made, model in (("plain", PyTorchClassifier, plain), ("spiking", PyTorchSNNClassifier, network))
    }
    x, y = np.full((1, 1, 8, 8), 0.5, np.float32), np.eye(1, 10, dtype=np.float32)
    one = torch.from_numpy(x)
    once: dict[str, Callable[[], object]] = {
        "plain: predict": lambda: classifiers["plain"].predict(x),
        "plain: the network": lambda: forward(plain, one),
        "plain: the network, T samples": lambda: forward(plain, one.expand(time_steps, 1, 8, 8)),
        "spiking: the network": lambda: forward(network, one),
        "spiking: predict": lambda: classifiers["spiking"].predict(x),
        "plain: loss_gradient": lambda: classifiers["plain"].loss_gradient(x, y),
        "spiking: loss_gradient": lambda: classifiers["spiking"].loss_gradient(x, y),
        "spiking: loss_gradient, STBP": lambda: classifiers["spiking"].loss_gradient(x, y, chain="stbp"),
    }

    def repeated(run: Callable[[], object]) -> Callable[[], None]:
        return lambda: [run() for _ in range(calls)] and None

    figures = rounds_of({name: repeated(run) for name, run in once.items()}, rounds, f"T = {time_steps}")
    view = Table("", "ms", "ratio", title=f"One digit, T = {time_steps}, {torch.get_num_threads()} threads")
    for name, figure in figures.items():
        view.add_row(name, f"{1e3 * figure['seconds'] / calls:.2f}", f"{figure['ratio']:.2f}")
    Console().print(view)


if __name__ == "__main__":
    main()
