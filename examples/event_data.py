"""Event data: the embedded digits before a simulated event camera, attacked in all frames, and in one only.

    pip install '.[events]' && python examples/event_data.py

trains a small network on frames of events `(N, T, 2, H, W)`, a frame for each time step, attacks it with PGD along
HART, and prints for each attack how many recordings are classified correctly, in percent, and how many events are added
to a recording and taken away. eps and steps are in counts of events.
"""

from __future__ import annotations

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent

from art_snn import EventFrames, PyTorchSNNClassifier, datasets, models

T, SIZE = 6, 16


def main() -> None:
    torch.manual_seed(0)
    (x_train, y_train), (x_test, y_test), low, high = datasets.event_digits(time_steps=T, size=(SIZE, SIZE), seed=0)
    x_test, labels = x_test[:100], y_test[:100].argmax(1)
    network = models.small_cnn(input_shape=(2, SIZE, SIZE), time_steps=T, encoder=EventFrames())
    classifier = PyTorchSNNClassifier(
        network,
        torch.nn.CrossEntropyLoss(),
        (T, 2, SIZE, SIZE),
        10,
        torch.optim.Adam(network.parameters(), 5e-3),
        clip_values=(low, high),
        chain="hart",
    )
    classifier.fit(x_train, y_train, batch_size=64, nb_epochs=6)

    attack = ProjectedGradientDescent(classifier, eps=1.0, eps_step=0.25, max_iter=10, verbose=False)
    one_frame = np.zeros(classifier.input_shape, np.float32)
    one_frame[T // 2] = 1.0
    x_adv = {
        "clean": x_test,
        "one frame": attack.generate(x_test, y_test[:100], mask=one_frame),
        "all frames": attack.generate(x_test, y_test[:100]),
    }
    events = x_test.sum((1, 2, 3, 4)).mean()
    print(f"T = {T}, {len(x_test)} recordings of {events:.0f} events, at most {high:g} in one place")
    print(f"{'attack':12}{'accuracy':>10}{'added':>8}{'taken':>8}")
    for name, x in x_adv.items():
        accuracy = (classifier.predict(x).argmax(1) == labels).mean()
        change = (x - x_test).reshape(len(x), -1)
        added, taken = (change.clip(min=0).sum(1).mean(), (-change).clip(min=0).sum(1).mean())
        print(f"{name:12}{100 * accuracy:10.1f}{added:8.0f}{taken:8.0f}")


if __name__ == "__main__":
    main()
