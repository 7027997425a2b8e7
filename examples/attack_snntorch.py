"""A network of snnTorch, attacked as it is.

    pip install '.[snntorch]' && python examples/attack_snntorch.py

trains a small network on the embedded digits in snnTorch's own idiom, wraps it, attacks it along every
chain, and prints how many of the samples that it classified correctly are fooled, in percent.
"""

from __future__ import annotations

import snntorch as snn
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from snntorch import surrogate
from torch import nn

import art_snn
from art_snn import PyTorchSNNClassifier, datasets
from art_snn.chains.names import everywhere

T = 5


class Net(nn.Module):
    """A network that loops over its steps itself: from images `(B, 1, 8, 8)` to outputs `(T, B, 10)`."""

    def __init__(self) -> None:
        super().__init__()
        self.num_steps = T
        self.conv, self.fc1, self.fc2 = nn.Conv2d(1, 12, 3, padding=1), nn.Linear(192, 64), nn.Linear(64, 10)
        self.lif1 = snn.Leaky(beta=0.8, spike_grad=surrogate.atan())
        self.lif2 = snn.Leaky(beta=0.8, spike_grad=surrogate.atan(), learn_beta=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem1, mem2, outputs = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(self.num_steps):
            spikes, mem1 = self.lif1(nn.functional.avg_pool2d(self.conv(x), 2), mem1)
            spikes, mem2 = self.lif2(self.fc1(spikes.flatten(1)), mem2)
            outputs.append(self.fc2(spikes))
        return torch.stack(outputs)


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """As snnTorch's tutorials do."""
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(15):
        for rows in torch.randperm(len(x)).split(64):
            logits = net(x[rows]).mean(0)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
    net.eval()


def main() -> None:
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    x_test, labels = x_test[:200], y_test[:200].argmax(1)
    train(net := Net(), torch.from_numpy(x_train), torch.from_numpy(y_train.argmax(1)))

    # The three lines.
    network = art_snn.adapt(net, time_steps=T, call="whole", readout="mean")
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
