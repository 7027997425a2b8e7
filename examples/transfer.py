"""Transfer between a spiking network and one of the same shape without spikes.

    pip install . && python examples/transfer.py

trains both on the embedded digits, attacks each with PGD, shows the adversarial images to both, and prints a row for
each source, with the share of images that are misclassified by each target, in percent; the last row is of clean
images.
"""

from __future__ import annotations

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier

from art_snn import PyTorchSNNClassifier, datasets, models

EPS = 0.2


def main() -> None:
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test), low, high = datasets.digits(seed=0)
    x_test, y_test = x_test[:300], y_test[:300]

    classifiers: dict[str, PyTorchClassifier] = {}
    for name, spiking in {"SNN": True, "ANN": False}.items():
        network = models.small_cnn(time_steps=4) if spiking else models.small_cnn(spiking=False)
        kind = PyTorchSNNClassifier if spiking else PyTorchClassifier
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        classifiers[name] = kind(
            network, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(low, high)
        )
        classifiers[name].fit(x_train, y_train, batch_size=64, nb_epochs=10)
    classifiers["SNN"].chain = "hart"

    def wrong(x: np.ndarray) -> dict[str, float]:
        return {name: 100 * (one.predict(x).argmax(1) != y_test.argmax(1)).mean() for name, one in classifiers.items()}

    print(f"eps = {EPS}, {len(x_test)} images")
    print(f"{'source':8}" + "".join(f"{name:>8}" for name in classifiers))
    for name, source in classifiers.items():
        attack = ProjectedGradientDescent(source, eps=EPS, eps_step=EPS / 4, max_iter=10, verbose=False)
        print(f"{name:8}" + "".join(f"{rate:8.1f}" for rate in wrong(attack.generate(x_test, y_test)).values()))
    print(f"{'clean':8}" + "".join(f"{rate:8.1f}" for rate in wrong(x_test).values()))


if __name__ == "__main__":
    main()
