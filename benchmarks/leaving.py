"""What it saves that a fooled sample leaves the batch: `python -m benchmarks.leaving --help`.

The same attack on the same samples, with and without; both must fool the same samples. Ratios within one run, as in
:mod:`benchmarks.gradient`.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from art_snn import PyTorchSNNClassifier, datasets, models
from art_snn.attacks import SAPGD
from art_snn.chains import AdaptiveHART
from benchmarks.gradient import rounds_of


def trained(time_steps: int, epochs: int) -> tuple[PyTorchSNNClassifier, np.ndarray, np.ndarray]:
    """A network on the embedded digits, and the test samples that it classifies correctly."""
    torch.manual_seed(0)
    np.random.seed(0)
    (x_train, y_train), (x, y), low, high = datasets.digits(seed=0)
    network = models.small_cnn(time_steps=time_steps)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    classifier = PyTorchSNNClassifier(
        network,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        optimizer,
        clip_values=(low, high),
        chain=AdaptiveHART(),
        device_type="cpu",
    )
    classifier.fit(x_train, y_train, batch_size=64, nb_epochs=epochs)
    right = classifier.predict(x).argmax(1) == y.argmax(1)
    return classifier, x[right], y[right]


@click.command(help="Time of SA-PGD where fooled samples leave the batch, in ratio to where they stay.")
@click.option("--eps", multiple=True, type=float, default=(0.05, 0.1, 0.15), show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--time-steps", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(eps: tuple[float, ...], steps: int, time_steps: int, epochs: int, rounds: int) -> None:
    classifier, x, y = trained(time_steps, epochs)
    view = Table(
        "ε", "fooled, %", "stay, s", "leave, ratio", title=f"SA-PGD-{steps}, {len(x)} digits, T = {time_steps}"
    )
    for each in eps:
        found: dict[bool, Any] = {}

        def attack(leave: bool, each: float = each, found: dict[bool, Any] = found) -> None:
            made = SAPGD(classifier, eps=each, max_iter=steps, until_fooled=leave, seed=0, verbose=False)
            found[leave] = classifier.predict(made.generate(x, y)).argmax(1) != y.argmax(1)

        figures = rounds_of({"stay": lambda: attack(False), "leave": lambda: attack(True)}, rounds, f"ε = {each:g}")
        if not np.array_equal(found[True], found[False]):
            different = int((found[True] != found[False]).sum())
            raise click.ClickException(f"{different} samples end otherwise at ε = {each:g}.")
        view.add_row(
            f"{each:g}",
            f"{100 * found[True].mean():.1f}",
            f"{figures['stay']['seconds']:.1f}",
            f"{figures['leave']['ratio']:.2f}",
        )
    Console().print(view)


if __name__ == "__main__":
    main()
