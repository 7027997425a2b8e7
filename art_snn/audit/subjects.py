"""Who is attacked, and on which samples: a pair of networks on the embedded digits, or a pair that the user trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from art_snn import datasets, models
from art_snn.audit.networks import trained
from art_snn.audit.settings import HELD_OUT, AuditSettings
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.encoders import PoissonEncoder
from art_snn.network import SpikingNetwork

TEST_SHARE = 0.45  # of the 1,797 digits: 988 to train, 809 to choose γ and to attack


@dataclass(frozen=True)
class Samples:
    """Inputs, one-hot labels, and where in the data set's test part they are, if that is known."""

    x: np.ndarray
    y: np.ndarray
    indices: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """Classes `(N,)`."""
        return self.y.argmax(1)


@dataclass(frozen=True)
class Subjects:
    """Everything that an audit attacks.

    :param target: The classifier under attack.
    :param second: One of the same shape, trained with another seed, for black-box attacks.
    :param held_out: Samples on which γ is chosen, neither learned nor attacked.
    :param attacked: Test samples that are attacked.
    :param description: The target, in words.
    :param seeds: Seeds of data, target and second network.
    :param fresh: Whether target and second network were trained in this run.
    """

    target: PyTorchSNNClassifier
    second: PyTorchSNNClassifier
    held_out: Samples
    attacked: Samples
    description: str
    seeds: dict[str, int]
    fresh: tuple[bool, bool]


def embedded(settings: AuditSettings, networks: Path, advance: Callable[[], None]) -> Subjects:
    """
    :param settings: The audit's settings.
    :param networks: Folder where trained networks are kept.
    :param advance: Called after each epoch of training.
    :return: Two small networks on the embedded digits.
    """
    (x_train, y_train), (x_test, y_test), _, _ = datasets.digits(seed=settings.seed, test_size=TEST_SHARE)
    (target, target_fresh), (second, second_fresh) = (
        trained(settings, seed, x_train, y_train, networks, advance) for seed in (settings.seed, settings.seed + 1)
    )
    end = HELD_OUT + settings.samples
    return Subjects(
        target,
        second,
        Samples(x_test[:HELD_OUT], y_test[:HELD_OUT]),
        Samples(x_test[HELD_OUT:end], y_test[HELD_OUT:end], np.arange(HELD_OUT, end)),
        f"small_cnn on digits, T = {settings.time_steps}, λ = {settings.decay:g}, {settings.reset} reset, "
        f"{settings.encoder} encoding, seed {settings.seed}",
        {"data": settings.seed, "target": settings.seed, "second": settings.seed + 1},
        (target_fresh, second_fresh),
    )


def given(settings: AuditSettings) -> Subjects:
    """
    :param settings: The audit's settings, which name two networks that `art-snn train` wrote.
    :return: They; the samples that their training held out, to choose γ on; and test samples that the seed draws.
    :raises FileNotFoundError: If a file is missing.
    :raises ValueError: If a file is damaged, or the two do not make a pair.
    """
    from art_snn.training.data import load
    from art_snn.training.settings import TrainSettings

    assert settings.target is not None and settings.second is not None
    recipes = [_recipe(path) for path in (settings.target, settings.second)]
    differing = {name for name in recipes[0] if recipes[0][name] != recipes[1].get(name)} - {"root", "device"}
    if differing != {"seed"}:
        found = ", ".join(sorted(differing)) or "nothing"
        raise ValueError(f"second must be trained like target but for another seed; they differ in {found}.")
    recipe = recipes[0] | ({"root": settings.root} if settings.root is not None else {})
    converted = "converted " if recipe.pop("converted") else ""
    noise = ", Poisson encoding" if recipe["encoder"] == "poisson" else ""
    recipe["size"] = None if recipe["size"] is None else tuple(recipe["size"])
    data = load(TrainSettings(**recipe))
    span = data.clip_values[1] - data.clip_values[0]
    if settings.eps > span:
        raise ValueError(f"eps must be at most {span:g}, the range of the data, got {settings.eps!r}.")
    x, labels = data.test
    if settings.samples > len(x):
        raise ValueError(f"samples must be at most the number of test samples, {len(x)}, got {settings.samples}.")
    chosen = np.random.default_rng(settings.seed).permutation(len(x))[: settings.samples]
    classes = np.eye(data.nb_classes, dtype=np.float32)
    held_out = Samples(data.held_out[0][:HELD_OUT], classes[data.held_out[1][:HELD_OUT]])
    attacked = Samples(x[chosen], classes[labels[chosen]], chosen)
    target, second = (_classifier(path, data, settings.device) for path in (settings.target, settings.second))
    trained_by = f"{recipe['attack'].upper()}-trained " if recipe["attack"] != "none" else ""
    return Subjects(
        target,
        second,
        held_out,
        attacked,
        f"{trained_by}{converted}{recipe['network']} (width {recipe['width']:g}) on {recipe['data']}, "
        f"T = {recipe['time_steps']}, λ = {recipe['decay']:g}, {recipe['reset']} reset{noise}, seed {recipe['seed']}",
        {"data": recipe["data_seed"], "order": settings.seed, "target": recipe["seed"], "second": recipes[1]["seed"]},
        (False, False),
    )


def _recipe(path: str) -> dict[str, Any]:
    description = models.describe(Path(path))
    recipe = description["training"].get("settings")
    if recipe is None:
        raise ValueError(f"{path} was not written by art-snn train: it does not say what data it was trained on.")
    architecture = description["architecture"]
    converted = architecture.get("converted")
    if not converted:
        return recipe | {"converted": False}
    # It was trained without spikes: its neurons and its encoding are the conversion's.
    encoder = (architecture["arguments"].get("encoder") or {}).get("name")
    spiking = {"spiking": True, "decay": 1.0, "reset": "soft", "time_steps": converted["time_steps"]}
    return recipe | spiking | {"converted": True, "encoder": "poisson" if encoder == "poisson" else "direct"}


def _classifier(path: str, data: Any, device: str) -> PyTorchSNNClassifier:
    from art_snn.training.loop import classifier_for

    network = models.load_network(path)
    if not isinstance(network, SpikingNetwork):
        raise ValueError(f"{path} is a network without spikes: an audit compares chains, which it has not.")
    if isinstance(network.encoder, PoissonEncoder):
        network.encoder.freeze()
    return classifier_for(network, data, device)
