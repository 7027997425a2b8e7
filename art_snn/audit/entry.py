"""A leaderboard entry: what was found of a network, in a file that others can verify.

An entry is a JSON file in the manner of RobustBench's: its names for what both have (name, authors, link, venue,
dataset, architecture, eps, clean_acc, reported, additional_data, number_forward_passes, unreliable, footnote), with
accuracies in per cent; and what a spiking network needs besides: time steps, neurons, encoder, the chains of the
attacks, flags. It sets what was reported of a network against what was found, and has digests of network, data and
adversarial inputs. Whether it is true, :mod:`art_snn.audit.verify` finds out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_snn.adapters import AdaptedNetwork
from art_snn.audit.protocol import AuditResult
from art_snn.audit.subjects import TEST_SHARE, as_trained, loader_options
from art_snn.datasets.table import DATASETS
from art_snn.engine.problem import named
from art_snn.evaluation import Flag, WorstCase
from art_snn.evaluation.attempt import in_ball
from art_snn.files import json_text, replacing
from art_snn.identity import is_plain, of_arrays, of_network, versions
from art_snn.network import SpikingNetwork
from art_snn.neurons import SpikingLayer

#: Version of an entry's form.
SCHEMA = 1
#: What a file must say for an entry, and of which kind it is.
NEEDED: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "norm": str,
    "eps": (int, float),
    "clean_acc": (int, float),
    "found": (int, float),
    "samples": int,
    "classes": int,
    "dataset": str,
    "clip_values": list,
    "network": dict,
    "data": dict,
    "adversarial": dict,
}
#: What else may be said of a network.
ABOUT = ("authors", "link", "venue", "footnote", "additional_data")
#: Norms by their names.
NORMS = {"Linf": np.inf, "L2": 2.0}


class BadEntry(ValueError):
    """A file that is no entry, or none of adversarial inputs; the message names it."""


def entry(
    result: WorstCase,
    classifier: PyTorchClassifier,
    x: np.ndarray,
    *,
    name: str,
    dataset: str,
    source: Mapping[str, Any] | None = None,
    indices: Iterable[int] | None = None,
    network: str | None = None,
    reported: float | None = None,
    flags: Iterable[Flag] = (),
    **about: Any,
) -> dict[str, Any]:
    """
    :param result: The worst case of a network.
    :param classifier: The network, as it was attacked.
    :param x: The inputs that were attacked `(N, ...)`.
    :param name: The entry's name.
    :param dataset: The data set's name.
    :param source: How verification loads the data set, if the package can: `options` for its loader, or `training`,
        the settings of a training run.
    :param indices: Where the inputs are in the data set's test part; None if they are all of what verification is
        given.
    :param network: Where the network is from, in words.
    :param reported: Robust accuracy that others reported of it, in per cent.
    :param flags: What speaks against the figure.
    :param about: More to say of it: `authors`, `link`, `venue`, `footnote`, `additional_data`.
    :return: The entry, as plain values.
    :raises ValueError: If the inputs are not those of the result, or an adversarial input lies outside ε, as of a
        member with a norm of its own; or another argument is out of its range.
    """
    x = np.asarray(x, dtype=np.float32)
    if x.shape != result.x_adv.shape or not np.array_equal(x[result.fooled_by < 0], result.x_adv[result.fooled_by < 0]):
        raise ValueError("x must be the inputs of result: those that nothing fooled are others.")
    outside = int((~in_ball(result.x_adv, x, result.eps, float(result.norm))[1]).sum())
    if outside:
        raise ValueError(
            f"result has {outside} adversarial inputs outside ε = {result.eps:g}, L{result.norm}: an entry is of one "
            "ball."
        )
    if reported is not None and not 0.0 <= reported <= 100.0:
        raise ValueError(f"reported must be in per cent, from 0 to 100, got {reported!r}.")
    if unknown := set(about) - set(ABOUT):
        raise ValueError(f"about must be some of {', '.join(ABOUT)}, got {', '.join(sorted(unknown))}.")
    model, warnings = classifier.model, [_plain(flag) for flag in flags]
    members = result.members
    low, high = classifier.clip_values if classifier.clip_values is not None else (None, None)
    plain = {
        "schema": SCHEMA,
        "name": name,
        **dict.fromkeys(ABOUT),
        **about,
        "number_forward_passes": 1,
        "dataset": dataset,
        "architecture": _architecture(model),
        "norm": f"L{result.norm}",
        "eps": result.eps,
        "clean_acc": 100.0 * result.accuracy,
        "reported": reported,
        "found": 100.0 * result.robust_accuracy,
        "found_interval": [100.0 * end for end in result.interval],
        "unreliable": bool(warnings),
        "flags": warnings,
        "samples": len(x),
        "classes": int(classifier.nb_classes),
        "time_steps": getattr(model, "time_steps", None),
        "neurons": _neurons(model),
        "encoder": repr(model.encoder) if isinstance(model, SpikingNetwork) else None,
        "plan": result.plan,
        "attacks": [
            {"attack": line.attack, "chain": line.chain, "tried": line.tried, "fooled": line.fooled}
            for line in members.itertuples()
        ],
        "chains": list(dict.fromkeys(chain for chain in result.chains if chain)),
        "seed": result.seed,
        "preprocessing_defences": [type(each).__name__ for each in classifier.preprocessing_defences or ()],
        "clip_values": [None if end is None else np.asarray(end).tolist() for end in (low, high)],
        "network": {"source": network, "digest": digest(model)},
        "data": {
            **(source or {}),
            "indices": None if indices is None else [int(index) for index in indices],
            "digest": of_arrays(x, np.asarray(result.labels, dtype=np.int64)),
        },
        "adversarial": {"digest": of_arrays(result.x_adv.astype(np.float32))},
        "versions": result.versions or versions(),
    }
    return json.loads(json_text(plain))


def of_audit(result: AuditResult, *, name: str, reported: float | None = None, **about: Any) -> dict[str, Any]:
    """
    :param result: An audit's findings, with a worst case.
    :param name: The entry's name.
    :param reported: As for :func:`entry`.
    :param about: As for :func:`entry`.
    :return: The entry.
    :raises ValueError: If the audit has no worst case.
    """
    if result.worst is None or result.subjects is None:
        raise ValueError("plan must not be none: an entry is of the worst case.")
    settings, target, attacked = result.settings, result.subjects.target, result.subjects.attacked
    steps = getattr(target.model, "time_steps", None)
    if settings.target is not None:
        training = as_trained(settings.target)
        dataset, source = str(training["data"]), {"training": training}
    elif settings.network is None:
        dataset, source = settings.data, {"options": {"seed": settings.seed, "test_size": TEST_SHARE}}
    elif settings.data in DATASETS:
        dataset, source = settings.data, {"options": loader_options(DATASETS[settings.data], settings.seed, steps)}
    else:
        dataset, source = Path(settings.data).name, {}
    return entry(
        result.worst,
        target,
        attacked.x,
        name=name,
        dataset=dataset,
        source=source,
        indices=attacked.indices,
        network=settings.target or settings.network or result.description,
        reported=reported,
        flags=result.flags,
        **about,
    )


def write(plain: Mapping[str, Any], path: Path) -> Path:
    """
    :param plain: An entry.
    :param path: Where to; its folder exists.
    :return: The path.
    :raises OSError: If it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json_text(plain), encoding="utf-8")
    return path


def read(path: str | Path) -> dict[str, Any]:
    """
    :param path: An entry's file.
    :return: The entry.
    :raises BadEntry: If it is none, or of a later version.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadEntry(f"{path} is no JSON file: {error}.") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or found.get("schema") is True:
        said = found.get("schema") if isinstance(found, dict) else None
        raise BadEntry(
            f"{path} is no entry of schema {SCHEMA}, which this version of art-snn verifies; it has {said!r}."
        )
    for name, kind in NEEDED.items():
        if not isinstance(found.get(name), kind) or isinstance(found[name], bool):
            raise BadEntry(f"{path} is no entry: {name} is {found.get(name)!r}.")
    if found["norm"] not in NORMS:
        raise BadEntry(f"{path}: norm must be {' or '.join(NORMS)}, got {found['norm']!r}.")
    for name in ("network", "data", "adversarial"):
        if not isinstance(found[name].get("digest"), str):
            raise BadEntry(f"{path} is no entry: {name} has no digest.")
    places = found["data"].get("indices")
    if places is not None and not (isinstance(places, list) and all(type(place) is int for place in places)):
        raise BadEntry(f"{path}: indices must be whole numbers.")
    if places is not None and len(set(places)) < len(places):
        raise BadEntry(f"{path}: indices name a sample twice.")
    if found["samples"] < 1:
        raise BadEntry(f"{path}: samples must be at least 1, got {found['samples']}.")
    if not _is_range(found["clip_values"]):
        raise BadEntry(f"{path}: clip_values must be the smallest and the largest value, got {found['clip_values']!r}.")
    return found


def _is_range(values: list[Any]) -> bool:
    """Whether it is two numbers, or nested lists of such of one shape; or twice None."""
    if values == [None, None]:
        return True
    try:
        return len(values) == 2 and np.array(values, dtype=np.float64).shape[0] == 2 and None not in values
    except (TypeError, ValueError):
        return False


def read_adversarial(path: str | Path) -> dict[str, np.ndarray]:
    """
    :param path: A file .npz as an audit writes it, `worst_case.npz`: `x_adv` `(N, ...)` and `labels` `(N,)`; perhaps
        `fooled_by` `(N,)`, from 0 on where an input is claimed to fool.
    :return: Its arrays.
    :raises BadEntry: If it is none.
    """
    found = arrays(path)
    for name in ("x_adv", "labels"):
        if name not in found:
            raise BadEntry(f"{path} has no array {name}, it has {', '.join(found) or 'none'}.")
    if not all(found[name].dtype.kind in "biuf" for name in found if name in ("x_adv", "labels", "fooled_by")):
        raise BadEntry(f"{path} holds arrays that are no numbers.")
    return found


def arrays(path: str | Path) -> dict[str, np.ndarray]:
    """
    :param path: A file .npz.
    :return: Its arrays.
    :raises BadEntry: If it is none.
    """
    try:
        with np.load(path) as file:
            if isinstance(file, np.ndarray):
                raise ValueError("it holds one array without a name")
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, BadZipFile, AttributeError) as error:
        raise BadEntry(f"{path} is no file .npz of arrays: {error}.") from None


def digest(network: nn.Module) -> str:
    """
    :param network: A network.
    :return: A digest of all that decides what it predicts, in evaluation mode; it is left in its own.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        return f"sha256 {of_network(network).hex()[:32]}"
    finally:
        for module, training in modes:
            module.training = training


def _architecture(network: nn.Module) -> str:
    known = getattr(network, "architecture", None)
    if isinstance(known, dict) and isinstance(known.get("name"), str):
        return known["name"]
    return type(network.body if isinstance(network, SpikingNetwork) else network).__name__


def _neurons(network: nn.Module) -> list[dict[str, Any]]:
    """The spiking layers, and what they are set by."""
    if not isinstance(network, SpikingNetwork):
        return []
    layers: list[SpikingLayer]
    if isinstance(network, AdaptedNetwork):
        layers = list(network.layers)
    else:
        layers = [module for module in network.body.modules() if isinstance(module, SpikingLayer)]
    return [
        {"layer": named(network, each), "type": type(each.module).__name__, **_set_by(each.described)}
        for each in layers
    ]


def _set_by(layer: SpikingLayer) -> dict[str, Any]:
    plain = set(vars(nn.Module()))
    given = {name: value for name, value in vars(layer).items() if name not in plain and not name.startswith("_")}
    given |= dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
    return {name: _shown(value) for name, value in sorted(given.items()) if value is None or is_plain(value)}


def _shown(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value if isinstance(value, (bool, int, float, str)) or value is None else repr(value)
    if value.numel() == 1:
        return float(value)
    return {"shape": list(value.shape), "smallest": float(value.min()), "largest": float(value.max())}


def _plain(flag: Flag) -> dict[str, Any]:
    return {name: value for name, value in asdict(flag).items() if name != "raised"}
