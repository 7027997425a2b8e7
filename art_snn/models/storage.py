"""Networks on disk: weights as safetensors, and beside them a small JSON that says how to build the network.

Loading never runs code from a file: it builds one of this package's own architectures and reads numbers into it.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from art_snn._version import __version__
from art_snn.encoders import DirectEncoder, Encoder, EventFrames, MedianEncoder, PoissonEncoder, named
from art_snn.files import json_text, replacing
from art_snn.models.architecture import Architecture
from art_snn.models.conversion import with_spikes
from art_snn.models.resnet import resnet17
from art_snn.models.small import small_cnn
from art_snn.models.vgg import vgg11, vgg_dvs
from art_snn.network import SpikingNetwork

BUILDERS: dict[str, Architecture] = {build.__name__: build for build in (small_cnn, vgg11, vgg_dvs, resnet17)}

#: Version of the JSON file's form: what one of a higher version means is not known here. Files without one are older
#: than 1; up to 1 `width` of `small_cnn` was the channels of its first convolution, 16 of which are the factor 1 now.
SCHEMA = 2

#: Mean and standard deviation of CIFAR-10's training images, on [0, 1], by channel: what networks of three channels
#: were normalised by in early files that give none.
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class DamagedNetwork(ValueError):
    """A network on disk that cannot be used; the message names the file."""


def save_network(network: nn.Module, path: str | Path, *, training: dict[str, Any] | None = None) -> Path:
    """Write `<path>.safetensors` (weights) and `<path>.json` (architecture), each whole or not at all.

    :param network: A network made by this package: `models.vgg11(...)` and the like, spiking or not, or a conversion.
    :param path: Where to, without a suffix; the folder is made.
    :param training: Anything worth keeping beside it that JSON can hold: settings, accuracy, seeds; a number that is
        not finite becomes null.
    :return: The path of the JSON file.
    :raises ValueError: If the network's architecture is not one of this package's, or the network was changed after it
        was built, so that its architecture would not give it back.
    :raises OSError: If it cannot be written.
    """
    architecture = getattr(network, "architecture", None)
    if architecture is None:
        raise ValueError(
            f"network must be one of art_snn.models ({', '.join(BUILDERS)}) or converted from one, got a "
            f"{type(network).__name__} of unknown architecture: keep its state_dict with safetensors instead."
        )
    path = Path(path)
    _check_unchanged(network, architecture)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = save({name: value.contiguous().cpu() for name, value in network.state_dict().items()})
    text = json_text(
        {
            "schema": SCHEMA,
            "architecture": _written(architecture),
            "training": training or {},
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "versions": {"art_snn": __version__, "torch": torch.__version__},
        }
    )
    with replacing(_file(path, ".safetensors")) as temporary:
        temporary.write_bytes(weights)
    with replacing(_file(path, ".json")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return _file(path, ".json")


def load_network(path: str | Path) -> SpikingNetwork | nn.Module:
    """Build a network from its JSON file and read its weights.

    :param path: As given to :func:`save_network`; a suffix `.json` or `.safetensors` is taken off.
    :return: The network in evaluation mode, on the CPU: a :class:`~art_snn.SpikingNetwork`, or a plain module if it was
        built with `spiking=False`.
    :raises FileNotFoundError: If one of the two files is missing.
    :raises DamagedNetwork: If they cannot be read, do not belong together or are of no architecture known here.
    """
    path = _stem(path)
    description = describe(path)
    file = _there(_file(path, ".safetensors"))
    weights = file.read_bytes()
    if hashlib.sha256(weights).hexdigest() != description.get("weights_sha256"):
        raise DamagedNetwork(f"{file} is damaged, or does not belong to {_file(path, '.json').name}.")
    network = _built(description, _file(path, ".json"))
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise DamagedNetwork(f"{file} is no safetensors file: {error}.") from None
    unfit = _unlike(network.state_dict(), tensors)
    if unfit:
        raise DamagedNetwork(f"{file} does not fit the network of {_file(path, '.json').name}: {unfit}.")
    # The network has no memory yet, and takes a copy of the file's numbers for its own.
    network.load_state_dict({name: value.clone() for name, value in tensors.items()}, assign=True)
    return network.eval()


def _unlike(expected: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """In what names, shapes and types differ, in words; empty if in nothing."""

    def kind(tensors: dict[str, Tensor], name: str) -> str:
        tensor = tensors.get(name)
        return "missing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"

    unlike = [name for name in sorted(expected | found) if kind(expected, name) != kind(found, name)]
    first = "".join(f"{name} is {kind(found, name)}, expected {kind(expected, name)}" for name in unlike[:1])
    return first + (f", and {len(unlike) - 1} more differ" if len(unlike) > 1 else "")


def describe(path: str | Path) -> dict[str, Any]:
    """
    :param path: As given to :func:`save_network`; a suffix `.json` or `.safetensors` is taken off.
    :return: What the JSON file says: `schema`, `architecture`, `training`, `weights_sha256`, `versions`.
    :raises FileNotFoundError: If it is missing.
    :raises DamagedNetwork: If it is no such file, or of a later version of this package.
    """
    file = _there(_file(_stem(path), ".json"))
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedNetwork(f"{file} is no JSON file: {error}") from None
    for name in ("architecture", "training"):
        if not isinstance(description, dict) or not isinstance(description.get(name), dict):
            raise DamagedNetwork(f"{file} does not describe a network: it has no object {name!r}.")
    schema = description.get("schema", 0)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise DamagedNetwork(f"{file} is of schema {schema!r}, this version of art-snn knows those up to {SCHEMA}.")
    return description


def _stem(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _file(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _there(file: Path) -> Path:
    if file.is_file():
        return file
    folder = file.with_suffix("")
    inside = f"; {folder} is a folder: name the network in it, {folder / 'network.json'}" if folder.is_dir() else ""
    raise FileNotFoundError(f"there is no file {file}{inside}.")


def _built(description: dict[str, Any], file: Path) -> SpikingNetwork | nn.Module:
    """The network with its shapes, on torch's device `meta`: without weights and their memory."""
    architecture = description["architecture"]
    name = architecture.get("name")
    if not isinstance(name, str) or name not in BUILDERS:
        raise DamagedNetwork(f"{file} names the architecture {name!r}, expected one of {', '.join(BUILDERS)}.")
    try:
        arguments = _translated(name, architecture["arguments"], description.get("schema", 0))
        encoder = _encoder(arguments.pop("encoder", None))
        arguments["input_shape"] = tuple(arguments["input_shape"])
        with torch.device("meta"):
            network = BUILDERS[name](**arguments, encoder=encoder)
        converted = architecture.get("converted")
        if converted:
            return with_spikes(network, converted["thresholds"], converted["time_steps"], encoder)
        return network
    except Exception as error:  # a wrong number may be wrong anywhere
        raise DamagedNetwork(f"{file} does not describe a network of this version: {error!r}") from None


def _translated(name: str, arguments: dict[str, Any], schema: int) -> dict[str, Any]:
    """A builder's arguments, from a file, as they are given today."""
    arguments = dict(arguments)
    if schema < 2 and name == "small_cnn":
        arguments["width"] /= 16
    colour = arguments["input_shape"][0] == 3
    for one, meant in (("mean", CIFAR_MEAN if colour else 0.0), ("std", CIFAR_STD if colour else 1.0)):
        if one in arguments and arguments[one] is None:
            arguments[one] = meant
    return arguments


def _check_unchanged(network: nn.Module, architecture: dict[str, Any]) -> None:
    """
    :raises ValueError: If what is written would give another network back.
    """
    try:
        written = json.loads(json.dumps(_written(architecture), allow_nan=False))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"network has an argument that JSON cannot hold: {error}.") from None
    twin = _built({"schema": SCHEMA, "architecture": written}, Path("the network"))
    for what, of in (
        ("layers", lambda n: re.sub(r"\b_?(Sync)?BatchNorm(\dd)?\b", "BatchNorm", repr(getattr(n, "body", n)))),
        ("time_steps", lambda n: getattr(n, "time_steps", None)),
        ("encoder", lambda n: type(getattr(n, "encoder", None))),
        ("dtype", lambda n: next(n.parameters()).dtype),
    ):
        if of(network) != of(twin):
            raise ValueError(f"network was changed after it was built: its architecture gives other {what} back.")


def _written(architecture: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(architecture["arguments"])
    encoder = arguments.get("encoder")
    if isinstance(encoder, PoissonEncoder):
        arguments["encoder"] = {"name": "poisson", "seed": encoder.seed}
    elif encoder is not None:
        known = {DirectEncoder: "direct", MedianEncoder: "median", EventFrames: "events"}
        arguments["encoder"] = {"name": known[type(encoder)]}
    return architecture | {"arguments": arguments}


def _encoder(written: dict[str, Any] | None) -> Encoder | None:
    if written is None:
        return None
    return EventFrames() if written["name"] == "events" else named(written["name"], written.get("seed"))
