"""The table of data sets that can be trained on: one line each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from art_snn.datasets.digits import digits
from art_snn.datasets.events import cifar10dvs, dvsgesture, nmnist
from art_snn.datasets.images import cifar10, cifar100, image_folder
from art_snn.datasets.saccades import event_digits
from art_snn.datasets.samples import Dataset
from art_snn.tables import Table


@dataclass(frozen=True)
class DataEntry:
    """One line of the table of data sets. What else there is to know of it, its loader's arguments say.

    :param name: Its name for settings and commands.
    :param title: Its name in reports.
    :param load: Its loader, which takes `limit` and `seed`, by keyword, and any of `root`, `time_steps`, `size`,
        `drop_outside`, `download` and `verbose`, with the meanings they have in this package's.
    :param size: Height and width of a sample where a training run gives none; the loader's own if None.
    :param padding: Pixels of zeros around a sample before it is cropped at random, in training.
    :param flips: Whether a mirrored sample is of the same class, so that training mirrors some.
    """

    name: str
    title: str
    load: Callable[..., Dataset]
    size: tuple[int, int] | None = None
    padding: int = 0
    flips: bool = False

    @cached_property
    def takes(self) -> frozenset[str]:
        """Names of the loader's arguments."""
        return frozenset(inspect.signature(self.load).parameters)

    @property
    def events(self) -> bool:
        """Whether its samples are frames of events, one for each time step."""
        return "time_steps" in self.takes

    @property
    def note(self) -> str:
        """What the list of data sets says of it."""
        size = "" if self.size is None else f"{self.size[0]} x {self.size[1]} by default"
        return ", ".join(filter(None, ["embedded" if self.embedded else "", size]))

    @property
    def embedded(self) -> bool:
        """Whether it needs no files."""
        return "root" not in self.takes


#: The sensor's 34 pixels cannot be halved as often as the networks do.
DIVISIBLE = (32, 32)

DATASETS = Table(
    DataEntry("digits", "digits", digits),
    DataEntry("event-digits", "event digits", event_digits, size=DIVISIBLE, padding=1),
    DataEntry("cifar10", "CIFAR-10", cifar10, padding=4, flips=True),
    DataEntry("cifar100", "CIFAR-100", cifar100, padding=4, flips=True),
    DataEntry("image-folder", "an image folder", image_folder, padding=4, flips=True),
    DataEntry("nmnist", "N-MNIST", nmnist, size=DIVISIBLE, padding=2),
    DataEntry("cifar10dvs", "CIFAR10-DVS", cifar10dvs, padding=4, flips=True),
    DataEntry("dvsgesture", "DVS128 Gesture", dvsgesture, padding=4),
)
