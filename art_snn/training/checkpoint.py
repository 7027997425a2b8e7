"""The state of a training run on disk: one safetensors file, replaced as a whole, which holds no code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from art_snn.files import replacing
from art_snn.training.settings import TrainSettings


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
    path: Path, settings: dict[str, Any], state: State, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """
    :param path: The file, which is replaced as a whole.
    :param settings: What is trained, as plain values.
    :param state: Where the run is.
    :param network: The network.
    :param optimizer: Its optimizer, SGD.
    """
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for index, parameter in enumerate(network.parameters()):
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{index}"] = momentum.contiguous()
    about = {"settings": settings, "state": asdict(state)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})


def read(path: Path, settings: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """
    :param path: The file; if it is not there, the run begins.
    :param settings: What is trained; the file's must be the same.
    :param network: The network, whose weights are set.
    :param optimizer: Its optimizer, whose momentum is set.
    :return: Where the run is.
    :raises DamagedCheckpoint: If the file cannot be read, or belongs to another run.
    """
    if not path.exists():
        return State()
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = State(**about["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(
            f"{path} is no checkpoint of a training run ({error!r}); delete it to begin anew."
        ) from None
    differing = differences(about["settings"], settings)
    if differing:
        raise DamagedCheckpoint(
            f"{path} belongs to a run with other settings ({differing}); give the same, or another folder."
        )
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    )
    for index, parameter in enumerate(network.parameters()):
        momentum = tensors.get(f"momentum.{index}")
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
    return state


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """
    :param before: Settings, as plain values.
    :param now: Others.
    :return: What differs, in words; empty if nothing does.
    """
    before = {each.name: each.default for each in fields(TrainSettings)} | before  # a setting of later date
    names = sorted((set(before) | set(now)) - {"root"})  # data may have moved
    return ", ".join(f"{n}: {before.get(n)!r}, now {now.get(n)!r}" for n in names if before.get(n) != now.get(n))
