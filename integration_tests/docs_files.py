"""Small data in the form of what a reader of the pages has: images of ten classes, recordings of ten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def images(folder: str) -> None:
    """`train/<class>` and `test/<class>`, 32 x 32 pixels of noise, each class brighter than the one before.

    :param folder: Where to.
    """
    from PIL import Image

    generator = np.random.default_rng(0)
    for part, number in (("train", 26), ("test", 8)):
        for place, name in enumerate(CLASSES):
            path = Path(folder, part, name)
            path.mkdir(parents=True)
            for index in range(number):
                pixels = generator.integers(20 * place, 20 * place + 60, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{index:04}.jpg")


def recordings(folder: str) -> None:
    """`NMNIST/Train/<digit>` and `NMNIST/Test/<digit>`: five bytes an event, each digit's events in a place of its own.

    :param folder: Where to.
    """
    generator = np.random.default_rng(0)
    for part, number in (("Train", 12), ("Test", 8)):
        for digit in range(10):
            path = Path(folder, "NMNIST", part, str(digit))
            path.mkdir(parents=True)
            for index in range(number):
                time = np.sort(generator.integers(0, 300_000, 400))
                record = np.empty((400, 5), dtype=np.uint8)
                record[:, 0] = 3 * digit + generator.integers(0, 5, 400)
                record[:, 1] = generator.integers(0, 34, 400)
                record[:, 2] = generator.integers(0, 2, 400) << 7 | time >> 16
                record[:, 3], record[:, 4] = time >> 8 & 255, time & 255
                (path / f"{index:05}.bin").write_bytes(record.tobytes())
