"""Training of spiking networks, plain or adversarial: what `art-snn train` runs."""

from art_snn.training.batch_memory import MemoryNeeded, bytes_per_sample
from art_snn.training.loop import Epoch, TrainResult, train
from art_snn.training.settings import TrainSettings

__all__ = ["Epoch", "MemoryNeeded", "TrainResult", "TrainSettings", "bytes_per_sample", "train"]
