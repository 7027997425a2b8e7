"""The networks of an audit: trained once, kept, and loaded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from art_snn._version import __version__
from art_snn.audit.settings import AuditSettings
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.encoders import PoissonEncoder
from art_snn.files import replacing
from art_snn.models import small_cnn

LEARNING_RATE = 1e-2
BATCH = 64


class DamagedCheckpoint(Exception):
    """A kept network that cannot be used; the message names the file."""


def classifier_for(settings: AuditSettings, seed: int) -> PyTorchSNNClassifier:
    """
    :param settings: The audit's settings.
    :param seed: Seed of the fresh weights.
    :return: An untrained classifier.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = small_cnn(
            time_steps=settings.time_steps,
            decay=settings.decay,
            reset=settings.reset,
            encoder=PoissonEncoder(seed=seed) if settings.encoder == "poisson" else None,
        )
    return PyTorchSNNClassifier(
        network,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        torch.optim.Adam(network.parameters(), LEARNING_RATE),
        clip_values=(0.0, 1.0),
        device_type=settings.device,
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
    :raises DamagedCheckpoint: If the kept file cannot be used.
    """
    classifier = classifier_for(settings, seed)
    recipe = _recipe(settings, seed)
    path = folder / f"{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.safetensors"
    fresh = not path.exists()
    if fresh:
        devices = [torch.cuda.current_device()] if classifier.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            for _ in range(settings.epochs):
                classifier.fit(x, y, batch_size=BATCH, nb_epochs=1)
                advance()
        state = {name: value.contiguous() for name, value in classifier.model.state_dict().items()}
        with replacing(path) as temporary:
            save_file(state, temporary, metadata={"recipe": recipe})
    else:
        _load(classifier, path, recipe)
    classifier.model.eval()
    if isinstance(classifier.model.encoder, PoissonEncoder):
        classifier.model.encoder.freeze()
    return classifier, fresh


def _recipe(settings: AuditSettings, seed: int) -> str:
    """All that decides the weights, as text."""
    names = ("time_steps", "decay", "reset", "encoder", "epochs", "device")
    recipe = {name: getattr(settings, name) for name in names}
    recipe |= {"data_seed": settings.seed, "seed": seed, "network": "small_cnn", "data": "digits"}
    recipe |= {"learning_rate": LEARNING_RATE, "batch": BATCH, "art_snn": __version__, "torch": torch.__version__}
    return json.dumps(recipe, sort_keys=True)


def _load(classifier: PyTorchSNNClassifier, path: Path, recipe: str) -> None:
    """Weights only: the format holds no code."""
    advice = "delete it, and the network is trained again"
    try:
        with safe_open(path, framework="pt") as file:
            kept = (file.metadata() or {}).get("recipe")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpoint(f"{path} is no readable network ({error}): {advice}.") from None
    if kept != recipe:
        raise DamagedCheckpoint(f"{path} holds a network of other settings ({kept}): {advice}.")
    try:
        classifier.model.load_state_dict(state)
    except RuntimeError as error:
        raise DamagedCheckpoint(f"{path} does not fit the network ({error}): {advice}.") from None
