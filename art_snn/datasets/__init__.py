"""Data sets in ART's form: `(x_train, y_train), (x_test, y_test), min, max`, with float32 inputs and one-hot labels.

Images are `(N, C, H, W)` in [0, 1]; recordings of event cameras are frames `(N, T, 2, H, W)`, one for each time step.
`digits` and `event_digits` need no download; the others say what to download, and where, if they do not find it.
"""

from art_snn.datasets.digits import digits
from art_snn.datasets.events import cifar10dvs, dvsgesture, nmnist
from art_snn.datasets.frames import event_frames
from art_snn.datasets.images import cifar10, cifar100, image_folder
from art_snn.datasets.saccades import event_digits
from art_snn.datasets.samples import Dataset

__all__ = [
    "Dataset",
    "cifar10",
    "cifar10dvs",
    "cifar100",
    "digits",
    "dvsgesture",
    "event_digits",
    "event_frames",
    "image_folder",
    "nmnist",
]
