"""A backward chain of your own, beside those of the package.

    pip install . && python examples/own_chain.py

defines a chain that passes the gradient where the neuron is close to its threshold on average over time, enters it in
the table, attacks a small network on the embedded digits along it and along three others, and prints how many of the
images that were classified correctly are fooled, in percent. That its two methods agree is checked at its first
gradient.
"""

from __future__ import annotations

import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent

from art_snn import PyTorchSNNClassifier, datasets, models
from art_snn.chains import BackwardChain
from art_snn.chains.table import TABLE, ChainEntry
from art_snn.neurons import Trace


class Near(BackwardChain):
    """A rectangle of the mean distance from the threshold: no gradient where a neuron is far from it all the time."""

    def backward(self, grad_spikes: torch.Tensor, trace: Trace) -> torch.Tensor:
        return grad_spikes * self.gain(trace)  # (T, B, ...)

    def gain(self, trace: Trace) -> torch.Tensor:
        return (trace.distance.abs().mean(0) < 1.0).to(trace.spikes.dtype)  # (B, ...)


def main() -> None:
    TABLE.add(ChainEntry("near", "near the threshold", Near))
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    x_test, y_test = x_test[:200], y_test[:200]
    network = models.small_cnn(time_steps=4)
    classifier = PyTorchSNNClassifier(
        network,
        torch.nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        torch.optim.Adam(network.parameters(), 5e-3),
        clip_values=(low, high),
    )
    classifier.fit(x_train, y_train, batch_size=64, nb_epochs=10)

    right = classifier.predict(x_test).argmax(1) == y_test.argmax(1)
    print(f"clean accuracy {right.mean():.1%}")
    attacks = {
        "FGSM": FastGradientMethod(classifier, eps=0.15),
        "PGD": ProjectedGradientDescent(classifier, eps=0.15, eps_step=0.0375, max_iter=5, verbose=False),
    }
    print(f"{'chain':8}" + "".join(f"{name:>8}" for name in attacks))
    for chain in ("near", "stbp", "rga", "hart"):
        classifier.chain = chain
        after = [classifier.predict(attack.generate(x_test, y_test)).argmax(1) for attack in attacks.values()]
        print(f"{chain:8}" + "".join(f"{100 * (each != y_test.argmax(1))[right].mean():8.1f}" for each in after))


if __name__ == "__main__":
    main()
