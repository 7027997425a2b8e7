"""A graph of NIR, attacked as a library imports it.

    pip install '.[norse,nir]' && python examples/attack_nir.py

trains a small network on the embedded digits in Norse, writes it as a graph of NIR (https://neuroir.org), reads that,
wraps it, attacks it along every chain, and prints how many of the samples that it classified correctly are fooled, in
percent.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import nir
import norse.torch as norse
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from torch import nn

import art_snn
from art_snn import PyTorchSNNClassifier, datasets
from art_snn.chains.names import everywhere

T = 6


def make() -> nn.Module:
    """A network that runs a step at a time: `net(frame, state)` gives an output and the next state."""

    def neurons(size: int) -> nn.Module:
        settings = {"tau_mem_inv": 400.0, "v_leak": 0.0, "v_th": 0.3, "v_reset": 0.0}
        p = {name: torch.full((size,), value) for name, value in settings.items()}
        return norse.LIFBoxCell(norse.LIFBoxParameters(**p, alpha=torch.as_tensor(10.0)))

    return norse.SequentialState(nn.Linear(64, 96), neurons(96), nn.Linear(96, 64), neurons(64), nn.Linear(64, 10))


def run(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The mean output of T steps."""
    outputs, state = [], None
    for _ in range(T):
        out, state = net(x, state)
        outputs.append(out)
    return torch.stack(outputs).mean(0)


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """As Norse's tutorials do."""
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(15):
        for rows in torch.randperm(len(x)).split(64):
            logits = run(net, x[rows])
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
    net.eval()


def main() -> None:
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    x_train, x_test = x_train.reshape(-1, 64), x_test.reshape(-1, 64)
    x_test, labels = x_test[:200], y_test[:200].argmax(1)
    train(net := make(), torch.from_numpy(x_train), torch.from_numpy(y_train.argmax(1)))

    with TemporaryDirectory() as folder:
        # With dt = 1 Norse writes time constants in seconds.
        nir.write(f"{folder}/digits.nir", norse.to_nir(net, torch.zeros(64), dt=1.0))
        net = norse.from_nir(nir.read(f"{folder}/digits.nir"), dt=1e-3)

    # The three lines.
    network = art_snn.adapt(net, time_steps=T, call="step", readout="mean")
    classifier = PyTorchSNNClassifier(
        network, nn.CrossEntropyLoss(), input_shape=(64,), nb_classes=10, clip_values=(low, high), chain="hart"
    )
    right = classifier.predict(x_test).argmax(1) == labels
    print(f"clean accuracy {right.mean():.1%}, T = {T}")
    attacks = {
        "FGSM": FastGradientMethod(classifier, eps=0.15),
        "PGD": ProjectedGradientDescent(classifier, eps=0.15, eps_step=0.0375, max_iter=5, verbose=False),
    }
    print(f"{'chain':8}" + "".join(f"{name:>8}" for name in attacks))
    for chain in (*everywhere(), "native"):
        classifier.chain = chain
        fooled = []
        for attack in attacks.values():
            after = classifier.predict(attack.generate(x_test, y_test[:200])).argmax(1)
            fooled.append((after != labels)[right].mean())
        print(f"{chain:8}" + "".join(f"{100 * share:8.1f}" for share in fooled))


if __name__ == "__main__":
    main()
