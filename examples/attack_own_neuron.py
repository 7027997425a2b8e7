"""A network with a neuron class of its own, attacked as it is.

    pip install . && python examples/attack_own_neuron.py

trains a small network on the embedded digits in plain torch, wraps it, attacks it along every
chain, and prints how many of the samples that it classified correctly are fooled, in percent.
"""

from __future__ import annotations

import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from torch import nn

import art_snn
from art_snn import LIF, PyTorchSNNClassifier, datasets
from art_snn.chains.names import everywhere

T = 4


class Spike(torch.autograd.Function):
    """A spike, and a rectangle as its derivative."""

    @staticmethod
    def forward(ctx, u: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        return grad * (ctx.saved_tensors[0].abs() < 0.5)


class LIFSpike(nn.Module):
    """Neurons on inputs with time merged into the batch, `(T*B, ...)`, time first."""

    def __init__(self, T: int, tau: float = 0.5, thresh: float = 1.0) -> None:
        super().__init__()
        self.T, self.tau, self.thresh = T, tau, thresh

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, mem, spikes = x.view(self.T, -1, *x.shape[1:]), 0.0, []
        for t in range(self.T):
            mem = mem * self.tau + x[t]
            spikes.append(Spike.apply(mem - self.thresh))
            mem = (1 - spikes[-1]) * mem
        return torch.stack(spikes).flatten(0, 1)


class Net(nn.Module):
    """From images `(B, 1, 8, 8)` to outputs `(T, B, 10)`."""

    def __init__(self) -> None:
        super().__init__()
        self.T = T
        self.layers = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            LIFSpike(T),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(192, 64),
            LIFSpike(T),
            nn.Linear(64, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.repeat(self.T, 1, 1, 1)).view(self.T, -1, 10)


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """As any torch network."""
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
    network = art_snn.adapt(
        net, time_steps=T, call="whole", neurons={LIFSpike: lambda m: LIF(decay=m.tau, threshold=m.thresh)}
    )
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
