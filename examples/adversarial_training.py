"""Adversarial training: ART's trainer, whose images follow HART and whose weights follow STBP.

    pip install . && python examples/adversarial_training.py

trains a small network on the embedded digits twice, on clean images and on FGSM images, and prints for each the
accuracy on clean images and in the worst case over the attacks of the plan "fast", in percent.
"""

from __future__ import annotations

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod
from art.defences.trainer import AdversarialTrainer

import art_snn
from art_snn import PyTorchSNNClassifier, datasets, models

EPS = 0.1


def make(low: float, high: float) -> PyTorchSNNClassifier:
    """The same network, with the same weights, at every call."""
    torch.manual_seed(0)
    np.random.seed(0)  # by which ART's trainer shuffles
    network = models.small_cnn(time_steps=4)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    return PyTorchSNNClassifier(
        network, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(low, high), chain="hart"
    )


def main() -> None:
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    x_test, y_test = x_test[:100], y_test[:100]

    usual = make(low, high)
    usual.fit(x_train, y_train, batch_size=64, nb_epochs=10)

    robust = make(low, high)
    attack = FastGradientMethod(robust, eps=EPS, batch_size=64)
    AdversarialTrainer(robust, attack, ratio=1.0).fit(x_train, y_train, batch_size=64, nb_epochs=10)

    print(f"eps = {EPS}, {len(x_test)} images")
    print(f"{'trained on':12}{'clean':>8}{'robust':>8}")
    for name, classifier in {"clean": usual, "adversarial": robust}.items():
        clean = (classifier.predict(x_test).argmax(1) == y_test.argmax(1)).mean()
        worst = art_snn.evaluate(classifier, x_test, y_test, eps=EPS, plan="fast", verbose=False)
        print(f"{name:12}{100 * clean:8.1f}{100 * worst.robust_accuracy:8.1f}")


if __name__ == "__main__":
    main()
