"""README's lines: train a small spiking network, attack it with ART's PGD along HART, and find its worst case.

    pip install . && python examples/quickstart.py

prints the accuracy on the embedded digits, clean and under PGD, and the worst case over many attacks.
"""

from __future__ import annotations

import torch
from art.attacks.evasion import ProjectedGradientDescent

import art_snn
from art_snn import PyTorchSNNClassifier, datasets, models
from art_snn.chains import HART


def main() -> None:
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    network = models.small_cnn(time_steps=8)
    classifier = PyTorchSNNClassifier(
        model=network,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(network.parameters(), 1e-2),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(low, high),
        chain=HART(gamma=1.5),
    )
    classifier.fit(x_train, y_train, batch_size=64, nb_epochs=20)

    attack = ProjectedGradientDescent(classifier, eps=0.15, eps_step=0.04, max_iter=5, verbose=False)
    for name, x in {"clean": x_test, "PGD": attack.generate(x_test, y_test)}.items():
        print(f"{name} accuracy {(classifier.predict(x).argmax(1) == y_test.argmax(1)).mean():.1%}")
    print(art_snn.evaluate(classifier, x_test[:100], y_test[:100], eps=0.15, verbose=False))


if __name__ == "__main__":
    main()
