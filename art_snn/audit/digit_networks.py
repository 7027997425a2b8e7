"""The pair of small networks of an audit of the embedded digits: trained once, kept, and loaded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from art_snn import datasets, models
from art_snn._version import __version__
from art_snn.audit.settings import AuditSettings
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.encoders import PoissonEncoder, named
from art_snn.identity import of_arrays
from art_snn.network import SpikingNetwork

LEARNING_RATE = 1e-2
BATCH = 64


def fresh_network(settings: AuditSettings, seed: int) -> SpikingNetwork:
    """
    :param settings: The audit's settings.
    :param seed: Seed of the weights.
    :return: An untrained network.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.small_cnn(
            time_steps=settings.time_steps,
            decay=settings.decay,
            reset=settings.reset,
            encoder=named(settings.encoder, seed),
        )


def classifier_for(network: SpikingNetwork, device: str) -> PyTorchSNNClassifier:
    """
    :param network: A network for the digits.
    :param device: `"cpu"` or `"gpu"`.
    :return: ART's view of it.
    """
    return PyTorchSNNClassifier(
        network,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        torch.optim.Adam(network.parameters(), LEARNING_RATE),
        clip_values=(0.0, 1.0),
        device_type=device,
    )


def trained(
    settings: AuditSettings,
    seed: int,
    x: np.ndarray,
    y: np.ndarray,
    folder: Path,
    advance: Callable[[], None],
) -> tuple[PyTorchSNNClassifier, bool]:
    """A trained classifier, from the folder if it is there.

    :param settings: The audit's settings.
    :param seed: Seed of weights and of the order of the samples.
    :param x: Training images `(N, 1, 8, 8)`.
    :param y: One-hot labels `(N, 10)`.
    :param folder: Where networks are kept.
    :param advance: Called after each epoch.
    :return: The classifier in evaluation mode, its Poisson noise frozen, and whether it was trained just now.
    :raises DamagedNetwork: If the kept files cannot be used.
    """
    recipe = _recipe(settings, seed) | {"learned": of_arrays(x, y)}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    path = folder / f"seed{seed}-{digest[:16]}"
    fresh = not path.with_suffix(".json").exists()
    if fresh:
        classifier = classifier_for(fresh_network(settings, seed), settings.device)
        devices = [torch.cuda.current_device()] if classifier.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for _ in range(settings.epochs):
                classifier.fit(x, y, batch_size=BATCH, nb_epochs=1)
                advance()
        models.save_network(classifier.model, path, training=recipe)
    else:
        classifier = classifier_for(_kept(path, recipe), settings.device)
    classifier.model.eval()
    if isinstance(classifier.model.encoder, PoissonEncoder):
        classifier.model.encoder.draws = 0  # the same noise for a network just trained and for one from the folder
        classifier.model.encoder.freeze()
    return classifier, fresh


def _recipe(settings: AuditSettings, seed: int) -> dict[str, Any]:
    """All that decides the weights."""
    names = ("time_steps", "decay", "reset", "encoder", "epochs", "device")
    recipe = {name: getattr(settings, name) for name in names}
    recipe |= {"data_seed": settings.seed, "seed": seed, "network": models.small_cnn.__name__}
    recipe |= {"data": datasets.digits.__name__}
    recipe |= {"learning_rate": LEARNING_RATE, "batch": BATCH, "art_snn": __version__, "torch": torch.__version__}
    return recipe | {"art": metadata.version("adversarial-robustness-toolbox")}


def _kept(path: Path, recipe: dict[str, Any]) -> SpikingNetwork:
    """A network that an earlier run trained."""
    advice = f"delete {path}.*, and the network is trained again"
    try:
        if models.describe(path).get("training") != recipe:
            raise models.DamagedNetwork(f"{path}.json is of other settings")
        network = models.load_network(path)
        if not isinstance(network, SpikingNetwork):
            raise models.DamagedNetwork(f"{path}.json is a network without spikes")
        return network
    except (models.DamagedNetwork, OSError) as error:
        raise models.DamagedNetwork(f"{str(error).rstrip('.')}: {advice}.") from None
