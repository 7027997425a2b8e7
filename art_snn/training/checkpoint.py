"""The state of a training run on disk: one safetensors file, replaced as a whole, which holds no code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from art_snn.files import replacing
from art_snn.identity import differences
from art_snn.training.settings import TrainSettings

#: The folder of the data may be another, since its digest decides; and Python's version rounds nothing.
MAY_DIFFER = frozenset({"root", "python"})
#: What a run from before a setting was there had.
DEFAULTS = {"settings": {each.name: each.default for each in fields(TrainSettings)}}


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be used; the message names the file."""


@dataclass
class State:
    """Where a run is.

    :param epoch: Index of the current epoch.
    :param step: Steps of it that are done.
    :param seconds: Time that it took so far.
    :param loss: Sum of its losses, over samples.
    :param correct: Samples of it that were classified correctly when they were learned.
    :param seen: Samples of it that were learned.
    :param history: One entry for each epoch before it.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def write(
    path: Path, recipe: dict[str, dict[str, Any]], state: State, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """
    :param path: The file, which is replaced as a whole.
    :param recipe: All that decides the weights, as plain values: `settings`, `data` and `versions`.
    :param state: Where the run is.
    :param network: The network.
    :param optimizer: Its optimizer, SGD.
    :raises OSError: If it cannot be written.
    """
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for index, parameter in enumerate(network.parameters()):
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{index}"] = momentum.contiguous()
    about = recipe | {"state": asdict(state), "tensors_sha256": _digest(tensors)}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"about": json.dumps(about)})
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path} cannot be written: {error}") from None


def read(path: Path, recipe: dict[str, dict[str, Any]], network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """
    :param path: The file; if it is not there, the run begins.
    :param recipe: All that decides the weights, as for :func:`write`; the file's must be the same.
    :param network: The network, whose weights are set.
    :param optimizer: Its optimizer, whose momentum is set.
    :return: Where the run is.
    :raises DamagedCheckpoint: If the file cannot be read, or belongs to another run.
    """
    if not path.exists():
        return State()
    about, tensors = _read(path)
    check_same(path, about, recipe, DamagedCheckpoint)
    if _digest(tensors) != about.get("tensors_sha256"):
        raise DamagedCheckpoint(f"{path} is damaged, its numbers are not those that were written; delete it.")
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    )
    for index, parameter in enumerate(network.parameters()):
        momentum = tensors.get(f"momentum.{index}")
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
    return State(**about["state"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        State(**about["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(
            f"{path} is no checkpoint of a training run ({error!r}); delete it to begin anew."
        ) from None
    return about, tensors


def check_same(
    path: Path, before: dict[str, Any], now: dict[str, dict[str, Any]], error: type[ValueError] = ValueError
) -> None:
    """
    :param path: The file that holds what was recorded.
    :param before: What was recorded.
    :param now: What is: `settings`, `data` and the like.
    :param error: What to raise.
    :raises ValueError: If a part is not recorded, or differs.
    """
    for part, values in now.items():
        if not isinstance(before.get(part), dict):
            raise error(f"{path} does not say of which {part} it is: an older art-snn wrote it; give another folder.")
        differing = differences(DEFAULTS.get(part, {}) | before[part], values, MAY_DIFFER)
        if differing:
            raise error(f"{path} was trained with other {part} ({differing}): give the same, or another folder.")


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
