"""art-snn: attacks on spiking neural networks, through the Adversarial Robustness Toolbox."""

from art_snn._version import __version__
from art_snn.chains import get_chain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.encoders import DirectEncoder, EventFrames, PoissonEncoder
from art_snn.network import SpikingNetwork
from art_snn.neurons import IF, LIF

__all__ = [
    "IF",
    "LIF",
    "DirectEncoder",
    "EventFrames",
    "PoissonEncoder",
    "PyTorchSNNClassifier",
    "SpikingNetwork",
    "__version__",
    "get_chain",
]
