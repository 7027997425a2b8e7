"""What else of ART is run on a spiking classifier, beside the evasion attacks.

A check is a function of the kind of network, `"spiking"` or `"plain"`, that does something with ART's own calls and
raises if it does not come out right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_snn import models
from art_snn.chains import HART
from integration_tests.art_support.settings import classifier, plain, seeded, setting

#: Perturbation and time of training of what is trained here.
EPS = 0.12
BATCH = 64
EPOCHS = 6


@dataclass(frozen=True)
class Check:
    """One row of the table.

    :param section: The table it belongs to.
    :param name: What is run.
    :param run: Runs it on the given kind of network.
    :param note: What a user must know.
    :param needs: Optional packages that it needs.
    """

    section: str
    name: str
    run: Callable[[str], None]
    note: str = ""
    needs: tuple[str, ...] = ()


CHECKS: list[Check] = []


def check(section: str, name: str, note: str = "", needs: tuple[str, ...] = ()) -> Callable:
    def register(function: Callable[[str], None]) -> Callable[[str], None]:
        CHECKS.append(Check(section, name, function, note, needs))
        return function

    return register


def victim(kind: str, where: str = "digits") -> PyTorchClassifier:
    """The trained classifier of a setting."""
    return getattr(setting(where), kind)


def fresh(kind: str, seed: int = 0, **kwargs) -> PyTorchClassifier:
    """An untrained classifier, small enough to be trained in a second."""
    seeded(seed)
    network = models.small_cnn(time_steps=4, width=0.5)
    made = classifier(network if kind == "spiking" else plain(network), (1, 8, 8), **kwargs)
    if kind == "spiking":
        made.chain = HART(1.5)
    return made


def around(kind: str, where: str = "digits", **kwargs) -> PyTorchClassifier:
    """The trained classifier of a setting with other ART settings around the same network."""
    basis = victim(kind, where)
    return classifier(basis.model, basis.input_shape, channels_first=basis.channels_first, **kwargs)


def digits(number: int = 600) -> tuple[np.ndarray, np.ndarray]:
    where = setting("digits")
    return where.x_train[:number], where.y_train[:number]


def accuracy(estimator, x: np.ndarray, y: np.ndarray) -> float:
    return float((estimator.predict(x).argmax(1) == y.argmax(1)).mean())


def public(module) -> Iterator[tuple[str, type]]:
    """Concrete classes that a module of ART offers, by name."""
    for name, member in sorted(inspect.getmembers(module, inspect.isclass)):
        if not inspect.isabstract(member):
            yield name, member
