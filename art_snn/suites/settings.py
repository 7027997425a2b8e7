"""What a suite is run on: data, network, how long it is trained, how much is attacked."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from art_snn import settings as shared
from art_snn.datasets.table import DATASETS
from art_snn.settings import Number, OneOf, Whole, setting
from art_snn.training.networks import NETWORKS
from art_snn.training.settings import TrainSettings


@dataclass(frozen=True)
class Preset:
    """What of a data set's networks is small enough to be trained here, and how strongly it is attacked.

    :param training: Settings of training.
    :param eps: The largest ε, on the data's scale.
    :param time_steps: T where a suite does not vary it.
    """

    training: dict[str, Any] = field(default_factory=dict)
    eps: float = 8 / 255
    time_steps: int = 8


_IMAGES = Preset({"network": "vgg11", "width": 0.25, "epochs": 10, "limit": 15_000})
_EVENTS = {"network": "vgg_dvs", "width": 0.125, "size": (16, 16), "epochs": 15, "batch_size": 32}

#: By data set; others are taken as images.
PRESETS = {
    "digits": Preset({"network": "small_cnn", "epochs": 20, "learning_rate": 0.05}, 0.15),
    "event-digits": Preset(_EVENTS | {"learning_rate": 0.05}, 0.3, 10),
    "nmnist": Preset(_EVENTS | {"size": None}, 1.0, 10),
    "cifar10dvs": Preset({"network": "vgg_dvs", "width": 0.25, "size": (48, 48), "epochs": 20}, 1.0, 10),
}

#: Names of CIFAR-10's classes, by which a folder of its images is known.
CIFAR_10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


@shared.documented
@dataclass(frozen=True, kw_only=True)
class SuiteSettings:
    """What a suite is run on; what is not given is the data set's own."""

    data: str = setting("digits", "Data set", OneOf(DATASETS))
    root: str | None = setting(None, "Folder of a data set that is not embedded.")
    limit: int | None = setting(None, "At most so many training and test samples.", Whole(1, 10**9), unset="by data")
    size: tuple[int, int] | None = setting(None, "Height and width of frames, in pixels.", unset="by data")
    network: str | None = setting(None, "Network", OneOf(NETWORKS), unset="by data")
    width: float | None = setting(None, "Factor on the channels.", Number(above=0.0, most=64.0), unset="by data")
    epochs: int | None = setting(None, "Epochs of training.", Whole(1, 100_000), unset="by data")
    batch_size: int | None = setting(None, "Samples of a training step.", Whole(2, 10**6), unset="by data")
    learning_rate: float | None = setting(None, "Initial learning rate.", Number(above=0.0), unset="by data")
    eps: float | None = setting(
        None, "ε (L∞), the largest where a suite varies it, on the data's scale.", Number(above=0.0), unset="by data"
    )
    time_steps: int | None = setting(
        None,
        "T where a suite does not vary it; all that it varies are in proportion.",
        Whole(1, 1_000),
        unset="by data",
    )
    samples: int = setting(300, "Test samples to attack.", Whole(1, 10**9))
    seed: int = shared.SEED(meaning="Seed of the target; the second network's is one higher.")
    device: str = shared.DEVICE()

    def __post_init__(self) -> None:
        shared.check(self)
        self.training()

    @property
    def preset(self) -> Preset:
        """What the data set has of its own."""
        return PRESETS.get(self.data, _IMAGES)

    @property
    def strongest(self) -> float:
        """The largest ε."""
        return self.preset.eps if self.eps is None else self.eps

    @property
    def steps(self) -> int:
        """T where it is not varied."""
        return self.preset.time_steps if self.time_steps is None else self.time_steps

    def training(self, **changes: Any) -> TrainSettings:
        """
        :param changes: What differs from case to case.
        :return: Settings of one network's training.
        :raises ValueError: If they do not go together.
        """
        own = {"data", "root", "limit", "size", "network", "width", "epochs", "batch_size", "learning_rate", "device"}
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name in own}
        given = {name: value for name, value in given.items() if value is not None}
        common = {"time_steps": self.steps, "decay": 0.9, "seed": self.seed}
        return TrainSettings(**self.preset.training | common | given | changes)

    def of_paper(self) -> tuple[str, str]:
        """
        :return: Data set and architecture as the paper names them.
        """
        data = DATASETS[self.data].title
        train = Path(self.root or "") / "train"
        if self.data == "image-folder" and train.is_dir() and {path.name for path in train.iterdir()} == CIFAR_10:
            data = DATASETS["cifar10"].title
        architecture = {"vgg11": "VGG-11", "resnet17": "ResNet-17", "vgg_dvs": "VGG-DVS"}
        return data, architecture.get(self.training().network, self.training().network)
