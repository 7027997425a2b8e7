"""A network of Norse, attacked as it is.

    pip install '.[norse]' && python examples/attack_norse.py

trains a small network on the embedded digits in Norse's own idiom, wraps it, attacks it along every
chain, and prints how many of the samples that it classified correctly are fooled, in percent.
"""

from __future__ import annotations

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
    p = norse.LIFBoxParameters(
        tau_mem_inv=torch.as_tensor(400.0), v_th=torch.as_tensor(0.3), alpha=torch.as_tensor(10.0)
    )
    return norse.SequentialState(
        nn.Conv2d(1, 12, 3, padding=1),
        norse.LIFBoxCell(p),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(192, 64),
        norse.LIFBoxCell(p),
        nn.Linear(64, 10),
    )


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
    x_test, labels = x_test[:200], y_test[:200].argmax(1)
    train(net := make(), torch.from_numpy(x_train), torch.from_numpy(y_train.argmax(1)))

    # The three lines.
    network = art_snn.adapt(net, time_steps=T, call="step", readout="mean")
    classifier = PyTorchSNNClassifier(
        network, nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(low, high), chain="hart"
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
