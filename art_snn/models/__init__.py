"""Network architectures, their conversion from rectifiers to spikes, and their files."""

from art_snn.models.conversion import convert
from art_snn.models.normalise import channel_statistics
from art_snn.models.resnet import resnet17
from art_snn.models.small import small_cnn
from art_snn.models.storage import DamagedNetwork, describe, load_network, save_network
from art_snn.models.vgg import vgg11, vgg_dvs

__all__ = [
    "DamagedNetwork",
    "channel_statistics",
    "convert",
    "describe",
    "load_network",
    "resnet17",
    "save_network",
    "small_cnn",
    "vgg11",
    "vgg_dvs",
]
