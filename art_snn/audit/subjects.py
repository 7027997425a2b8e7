"""Who is attacked, and on which samples: a pair of networks on the embedded digits, or a pair that the user trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_snn import datasets, models
from art_snn import settings as shared
from art_snn.attacks import ATTACKS
from art_snn.attacks.checks import class_indices
from art_snn.audit.digit_networks import classifier_for, fresh_network, trained
from art_snn.audit.settings import ARRAYS, HELD_OUT, SCENARIOS, AuditSettings
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.datasets.table import DATASETS, DataEntry
from art_snn.encoders import EventFrames, PoissonEncoder
from art_snn.identity import differences, of_arrays, unlike
from art_snn.network import SpikingNetwork

if TYPE_CHECKING:
    from art_snn.training.data import Data

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
    :param second: One of the same shape, trained with another seed, for black-box attacks; None if there is none.
    :param held_out: Samples on which γ is chosen, neither learned nor attacked.
    :param attacked: Test samples that are attacked.
    :param description: The target, in words.
    :param seeds: Seeds of data, target and second network.
    :param fresh: Whether target and second network were trained in this run.
    :param data: Digests of the data's arrays, and of the indices of its parts.
    :param sources: Further networks whose gradients are followed, by their names in the settings.
    """

    target: PyTorchClassifier
    second: PyTorchClassifier | None
    held_out: Samples
    attacked: Samples
    description: str
    seeds: dict[str, int]
    fresh: tuple[bool, bool]
    data: dict[str, str]
    sources: dict[str, PyTorchClassifier] = field(default_factory=dict)

    def source(self, scenario: str) -> PyTorchClassifier:
        """
        :param scenario: One of the settings' scenarios.
        :return: The classifier whose gradient an attack follows there.
        """
        white, black = SCENARIOS
        known = {white: self.target, black: self.second} | {f"{black} {name}": c for name, c in self.sources.items()}
        return known[scenario]


def subjects_of(settings: AuditSettings, networks: Path | None, advance: Callable[[], None] = lambda: None) -> Subjects:
    """
    :param settings: The audit's settings.
    :param networks: Folder where networks that are trained here are kept; None for untrained ones in their place.
    :param advance: Called after each epoch of training, or once.
    :return: Everything that the audit attacks.
    :raises ValueError: If networks or data cannot be used, or do not fit each other.
    """
    if settings.network is None and settings.target is None:
        found = embedded(settings, networks, advance)
    else:
        found = own(settings) if settings.target is None else given(settings)
        advance()
    x, y, clip = found.attacked.x, found.attacked.y, found.target.clip_values
    sources = {where: loaded("sources", where, x, y, clip, settings.device) for where in settings.sources or ()}
    found = replace(found, sources=sources)
    if settings.same_gradient:
        _give_the_same_gradient(found)
    return found


def _give_the_same_gradient(subjects: Subjects) -> None:
    """To all frames of a recording, along every chain."""
    for each in filter(None, (subjects.target, subjects.second, *subjects.sources.values())):
        encoder = getattr(each.model, "encoder", None)
        if not isinstance(encoder, EventFrames):
            raise ValueError(f"same_gradient is for event frames; inputs have shape {tuple(each.input_shape)}.")
        encoder.same_gradient = True


def loaded(
    name: str, where: str, x: np.ndarray, y: np.ndarray, clip: tuple[float, float] | None, device: str
) -> PyTorchClassifier:
    """
    :param name: What is looked for, in messages.
    :param where: A network.json, `module:function`, or `file.py:function`.
    :param x: Inputs that it takes `(N, ...)`.
    :param y: Their labels, one-hot.
    :param clip: Smallest and largest value of an input.
    :param device: `"cpu"` or `"gpu"`.
    :return: A classifier, in evaluation mode, its Poisson noise frozen.
    :raises ValueError: If it cannot be had, or takes other inputs.
    """
    found = made(name, where) if ":" in where and not where.endswith(".json") else models.load_network(where)
    if not isinstance(found, PyTorchClassifier):
        kind = PyTorchSNNClassifier if isinstance(found, SpikingNetwork) else PyTorchClassifier
        loss = nn.CrossEntropyLoss()
        found = kind(found.eval(), loss, x.shape[1:], y.shape[1], clip_values=clip, device_type=device)
    if where.endswith(".json") and isinstance(getattr(found.model, "encoder", None), PoissonEncoder):
        found.model.encoder.freeze()
    if tuple(found.input_shape) != x.shape[1:] or found.nb_classes != y.shape[1]:
        raise ValueError(
            f"{name} {where} takes inputs {tuple(found.input_shape)} of {found.nb_classes} classes, the data have "
            f"{x.shape[1:]} of {y.shape[1]}."
        )
    return found


def embedded(settings: AuditSettings, networks: Path | None, advance: Callable[[], None]) -> Subjects:
    """
    :param settings: The audit's settings.
    :param networks: Folder where trained networks are kept; None for untrained ones.
    :param advance: Called after each epoch of training.
    :return: Two small networks on the embedded digits.
    """
    (x_train, y_train), (x_test, y_test), _, _ = datasets.digits(seed=settings.seed, test_size=TEST_SHARE)
    if len(unlike(x_test, x_train)) < len(x_test):  # scikit-learn's are all different
        raise ValueError("the digits hold a test image that equals one to be learned.")
    seeds = (settings.seed, settings.seed + 1)
    if networks is None:
        pair = [(classifier_for(fresh_network(settings, seed), settings.device), False) for seed in seeds]
    else:
        pair = [trained(settings, seed, x_train, y_train, networks, advance) for seed in seeds]
    (target, target_fresh), (second, second_fresh) = pair
    end = HELD_OUT + settings.samples
    return Subjects(
        target,
        second,
        Samples(x_test[:HELD_OUT], y_test[:HELD_OUT]),
        Samples(x_test[HELD_OUT:end], y_test[HELD_OUT:end], np.arange(HELD_OUT, end)),
        f"{models.small_cnn.__name__} on {datasets.digits.__name__}, T = {settings.time_steps}, "
        f"λ = {settings.decay:g}, {settings.reset} reset, {settings.encoder} encoding, seed {settings.seed}",
        {"data": settings.seed, "target": settings.seed, "second": settings.seed + 1},
        (target_fresh, second_fresh),
        {"training_arrays": of_arrays(x_train, y_train), "test_arrays": of_arrays(x_test, y_test)},
    )


def given(settings: AuditSettings) -> Subjects:
    """
    :param settings: The audit's settings, which name a network that `art-snn train` wrote, or two.
    :return: They; the samples that their training held out, to choose γ on; and test samples that the seed draws.
    :raises FileNotFoundError: If a file is missing.
    :raises ValueError: If a file is damaged, the two do not make a pair, or the data are not those that they learned.
    """
    paths = [str(settings.target), *filter(None, [settings.second])]
    recipes = [_recipe(path) for path in paths]
    for other in recipes[1:]:
        differing = {name for name in recipes[0] | other if recipes[0].get(name) != other.get(name)}
        if differing - {"root", "device"} != {"seed"}:
            found = ", ".join(sorted(differing - {"root", "device"})) or "nothing"
            raise ValueError(f"second must be trained like target but for another seed; they differ in {found}.")
    data = _data(settings, paths, recipes)
    recipe = recipes[0]
    converted = "converted " if recipe["converted"] else ""
    encoding = {"poisson": ", Poisson encoding", "median": ", median filter"}.get(recipe["encoder"], "")
    x, labels = data.test
    _check_eps(settings, x, data.clip_values[1] - data.clip_values[0])
    unseen = unlike(x, data.learned[0], data.held_out[0])
    if settings.samples > len(unseen):
        raise ValueError(
            f"samples must be at most the number of test samples, {len(unseen)}, got {settings.samples}"
            + (f"; {len(x) - len(unseen)} equal a training sample." if len(unseen) < len(x) else ".")
        )
    order = np.random.default_rng(settings.seed).permutation(len(x))
    chosen = order[np.isin(order, unseen)][: settings.samples]
    tuned_on = unlike(data.held_out[0], data.learned[0])[:HELD_OUT]
    if len(tuned_on) == 0:
        raise ValueError("root holds no held-out sample to choose γ on: each equals one that was learned.")
    classes = np.eye(data.nb_classes, dtype=np.float32)
    held_out = Samples(data.held_out[0][tuned_on], classes[data.held_out[1][tuned_on]])
    attacked = Samples(x[chosen], classes[labels[chosen]], chosen)
    target, *others = (_classifier(path, data, settings.device) for path in paths)
    seeds = {"data": recipe["data_seed"], "order": settings.seed, "target": recipe["seed"]}
    trained_by = f"{ATTACKS[recipe['attack']].title}-trained " if recipe["attack"] in ATTACKS else ""
    return Subjects(
        target,
        others[0] if others else None,
        held_out,
        attacked,
        f"{trained_by}{converted}{recipe['network']} (width {recipe['width']:g}) on {DATASETS[recipe['data']].title}, "
        + (
            f"T = {recipe['time_steps']}, λ = {recipe['decay']:g}, {recipe['reset']} reset{encoding}"
            if recipe.get("spiking", True)
            else "without spikes"
        )
        + f", seed {recipe['seed']}"
        + (
            f", without {len(x) - len(unseen)} test samples that equal a training sample"
            if len(unseen) < len(x)
            else ""
        ),
        seeds | ({"second": recipes[1]["seed"]} if others else {}),
        (False, False),
        data.identity,
    )


def own(settings: AuditSettings) -> Subjects:
    """
    :param settings: The audit's settings, which name functions that return networks.
    :return: The networks; and of the data set's test part, or of a file's samples, in an order that the seed draws,
        samples to choose γ on and samples to attack. What the networks learned is theirs to know.
    :raises FileNotFoundError: If the data set is not there.
    :raises ValueError: If a function cannot be found or fails, or returns no spiking network.
    """
    network = made("network", str(settings.network))
    x, y, low, high, title = _test_part(settings, network)
    _check_eps(settings, x, high - low)
    tuned_on = min(HELD_OUT, len(x) // 3)
    samples = min(settings.samples, len(x) - tuned_on) if shared.is_default(settings, "samples") else settings.samples
    if samples > len(x) - tuned_on:
        raise ValueError(
            f"samples must be at most {len(x) - tuned_on}, the test part of {settings.data} without the {tuned_on} on "
            f"which γ is chosen, got {samples}."
        )
    order = np.random.default_rng(settings.seed).permutation(len(x))
    held_out, attacked = order[:tuned_on], order[tuned_on : tuned_on + samples]

    clip, device = (low, high), settings.device
    target = loaded("network", str(settings.network), x, y, clip, device)
    second = None if settings.second is None else loaded("second", settings.second, x, y, clip, device)
    time_steps = getattr(target.model, "time_steps", None)
    return Subjects(
        target,
        second,
        Samples(x[held_out], y[held_out], held_out),
        Samples(x[attacked], y[attacked], attacked),
        f"{settings.network} on {title}, " + ("no spikes" if time_steps is None else f"T = {time_steps}"),
        {"data": settings.seed, "order": settings.seed},
        (False, False),
        {"test_arrays": of_arrays(x, y)},
    )


def _test_part(settings: AuditSettings, network: Any) -> tuple[np.ndarray, np.ndarray, float, float, str]:
    """Test samples and one-hot labels, smallest and largest value, and the data's title."""
    if settings.data == ARRAYS:
        raise ValueError(f"data must be a data set or a file: {ARRAYS} are what art_snn.audit.run is given.")
    if settings.data not in DATASETS:
        x, y, low, high = _arrays(settings.data, network)
        return x, y, low, high, Path(settings.data).name
    entry = DATASETS[settings.data]
    options = loader_options(entry, settings.seed, getattr(getattr(network, "model", network), "time_steps", None))
    (_, _), (x, y), low, high = entry.load(*([] if entry.embedded else [settings.root]), **options)
    return x, y, low, high, entry.title


def loader_options(entry: DataEntry, seed: int, time_steps: int | None) -> dict[str, Any]:
    """
    :param entry: A data set.
    :param seed: The audit's seed.
    :param time_steps: Those of the network under attack.
    :return: What its loader is given.
    """
    options: dict[str, Any] = {"seed": seed}
    if entry.events:
        options["time_steps"] = time_steps
    if entry.size is not None:
        options["size"] = entry.size
    return options


def _arrays(path: str, network: Any) -> tuple[np.ndarray, np.ndarray, float, float]:
    """The samples of a file: inputs `x` and labels `y`, and perhaps the smallest and largest value of an input."""
    try:
        with np.load(path) as file:
            found = {name: file[name] for name in ("x", "y", "low", "high") if name in file.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"data {path} cannot be read: {error}.") from None
    if not {"x", "y"} <= set(found):
        raise ValueError(f"data {path} must hold arrays x and y, it has {', '.join(found) or 'neither'}.")
    x, y = np.ascontiguousarray(found["x"], dtype=np.float32), found["y"]
    clip = network.clip_values if isinstance(network, PyTorchClassifier) else None
    if clip is None and not {"low", "high"} <= set(found):
        raise ValueError(
            f"data {path} must say which values an input may have, in numbers low and high, or network must be a "
            "classifier with clip_values."
        )
    low, high = (float(np.min(clip[0])), float(np.max(clip[1]))) if clip is not None else (found["low"], found["high"])
    if not np.isfinite(x).all() or x.min() < low or x.max() > high:
        raise ValueError(f"data {path}: x must be finite, from {low:g} to {high:g}, got {x.min():g} to {x.max():g}.")
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"data {path} must hold one label in y for each input in x, got {len(y)} for {len(x)}.")
    if isinstance(network, PyTorchClassifier):
        classes = network.nb_classes
    else:
        with torch.no_grad():
            classes = int(network(torch.from_numpy(x[:1])).shape[1])
    return x, np.eye(classes, dtype=np.float32)[class_indices(y, len(x), classes)], float(low), float(high)


def _check_eps(settings: AuditSettings, x: np.ndarray, span: float) -> None:
    """ε of the maximum norm lies within the data's range; of the Euclidean one, within that of all values."""
    most = float(span) * (1.0 if settings.norm == "inf" else float(np.sqrt(x[0].size)))
    if settings.eps > most:
        raise ValueError(f"eps must be at most {most:g}, the range of the data, got {settings.eps!r}.")


def made(name: str, where: str) -> SpikingNetwork | PyTorchClassifier:
    """
    :param name: What is looked for, in messages.
    :param where: `module:function`, or `file.py:function`.
    :return: What the function returns, in evaluation mode.
    :raises ValueError: If it cannot be found, fails, or returns something else.
    """
    place, _, function = where.rpartition(":")
    if not place or not function.isidentifier():
        raise ValueError(f"{name} must be module:function or file.py:function, got {where!r}.")
    try:
        make = getattr(_module(place), function)
        found = make()
    except Exception as error:
        raise ValueError(f"{name} {where} gives no network ({type(error).__name__}: {error}).") from error
    if not isinstance(found, (SpikingNetwork, PyTorchClassifier)):
        raise ValueError(
            f"{name} {where} must return a SpikingNetwork, what art_snn.adapt gives, or a PyTorchSNNClassifier; one "
            f"without spikes in ART's PyTorchClassifier; got {type(found).__name__}."
        )
    (found.model if isinstance(found, PyTorchClassifier) else found).eval()
    return found


def _module(place: str) -> ModuleType:
    """A module by its name, or by its file; beside either, those of its folder are found."""
    path = Path(place)
    if path.suffix != ".py":
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return import_module(place)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {place}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module  # classes that are pickled are looked up there
    spec.loader.exec_module(module)
    return module


def _data(settings: AuditSettings, paths: list[str], recipes: list[dict[str, Any]]) -> Data:
    """What the networks learned and were tested on, after a comparison with what they say of it."""
    trained, *others = parts = [models.describe(Path(path))["training"] for path in paths]
    for path, training in zip(paths, parts, strict=True):
        if not isinstance(training.get("data"), dict):
            raise ValueError(
                f"{path} does not say which samples it learned, so that an audit could attack those: an older art-snn "
                "wrote it. Train it again, in another folder."
            )
    for second in others:
        if differing := differences(trained["data"], second["data"]):
            raise ValueError(
                f"second must have learned target's data; they differ, target's and now second's: {differing}."
            )
    learned = _learned(trained) | ({} if settings.root is None else {"root": settings.root})
    data = load_as_trained(learned)
    differing = differences(trained["data"], data.identity)
    if differing:
        raise ValueError(f"root must hold the data that target learned; they differ: {differing}.")
    if recipes[0]["time_steps"] == trained["settings"]["time_steps"] or not DATASETS[recipes[0]["data"]].events:
        return data
    return load_as_trained(learned | {"time_steps": recipes[0]["time_steps"]})  # as many frames as steps


def _learned(training: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training run, by which its data are loaded again."""
    # The scale is the number that "max" came to; other data may have another.
    return training["settings"] | ({} if training.get("scale") is None else {"scale": training["scale"]})


def as_trained(path: str) -> dict[str, Any]:
    """
    :param path: A network that `art-snn train` wrote.
    :return: Settings by which the data that an audit attacks are loaded again, for :func:`load_as_trained`; where they
        lie is not among them.
    """
    learned, steps = _learned(models.describe(Path(path))["training"]), _recipe(path)["time_steps"]
    kept = {name: value for name, value in learned.items() if name not in ("root", "device")}
    return kept | ({"time_steps": steps} if DATASETS[kept["data"]].events else {})


def load_as_trained(settings: dict[str, Any]) -> Data:
    """
    :param settings: Settings of a training run.
    :return: Its data.
    :raises ValueError: If this version knows no such settings.
    """
    from art_snn.training.data import load
    from art_snn.training.settings import TrainSettings

    size = settings.get("size")
    try:
        known = TrainSettings(**(settings | {"size": None if size is None else tuple(size)}))
    except TypeError as error:
        raise ValueError(
            f"target was trained with settings that this version of art-snn does not know: {error}."
        ) from None
    return load(known)


def _recipe(path: str) -> dict[str, Any]:
    description = models.describe(Path(path))
    recipe = description["training"].get("settings")
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} was not written by art-snn train: it does not say what data it was trained on.")
    architecture = description["architecture"]
    converted = architecture.get("converted")
    if not converted:
        return recipe | {"converted": False}
    # It was trained without spikes: its neurons and its encoding are the conversion's.
    encoder = (architecture["arguments"].get("encoder") or {}).get("name")
    spiking = {"spiking": True, "decay": 1.0, "reset": "soft", "time_steps": converted["time_steps"]}
    return recipe | spiking | {"converted": True, "encoder": "poisson" if encoder == "poisson" else "direct"}


def _classifier(path: str, data: Any, device: str) -> PyTorchClassifier:
    from art_snn.training.loop import classifier_for

    network = models.load_network(path).eval()
    if isinstance(encoder := getattr(network, "encoder", None), PoissonEncoder):
        encoder.freeze()
    return classifier_for(network, data, device)
