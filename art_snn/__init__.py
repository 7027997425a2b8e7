"""art-snn: attacks on spiking neural networks, through the Adversarial Robustness Toolbox.

The public names below, and the package's modules, are loaded when they are first used, so that `import art_snn`, and
with it `art-snn --help`, does not wait for torch.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from art_snn._version import __version__

if TYPE_CHECKING:
    from art_snn import (  # noqa: F401
        adapters,
        attacks,
        audit,
        chains,
        classifier,
        datasets,
        encoders,
        evaluation,
        models,
        network,
        neurons,
        surrogates,
        theory,
        training,
    )
    from art_snn.adapters import adapt
    from art_snn.chains import get_chain
    from art_snn.classifier import PyTorchSNNClassifier
    from art_snn.encoders import DirectEncoder, EventFrames, PoissonEncoder
    from art_snn.evaluation import evaluate
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
    "adapt",
    "evaluate",
    "get_chain",
]

_MODULES = {
    "IF": "neurons",
    "LIF": "neurons",
    "DirectEncoder": "encoders",
    "EventFrames": "encoders",
    "PoissonEncoder": "encoders",
    "PyTorchSNNClassifier": "classifier",
    "SpikingNetwork": "network",
    "adapt": "adapters",
    "evaluate": "evaluation",
    "get_chain": "chains",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"art_snn.{_MODULES[name]}"), name)
    if name in _rooms():
        return import_module(f"art_snn.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_rooms()})


def _rooms() -> set[str]:
    """The package's modules, whether loaded or not."""
    return {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
