"""The table of attacks: one line each. Every other evasion attack, of ART or ours, has its class's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from art.attacks import evasion
from art.attacks.attack import EvasionAttack
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent

from art_snn.attacks.brief import BriefPGD
from art_snn.attacks.polished import PolishedPGD
from art_snn.attacks.sapgd import SAPGD
from art_snn.attacks.square import Square
from art_snn.specs import parsed
from art_snn.tables import Table

#: Attacks that ask for predictions only: a chain has no say in what they find.
QUERIES = frozenset(
    (
        *("BoundaryAttack", "FeatureAdversariesNumpy", "GRAPHITEBlackbox", "GeoDA", "HopSkipJump", "LaserAttack"),
        *("PixelAttack", "SignOPTAttack", "SimBA", "SpatialTransformation", "Square", "SquareAttack"),
        *("ThresholdAttack", "ZooAttack"),
    )
)


@dataclass(frozen=True)
class AttackEntry:
    """One line of the table of attacks.

    :param name: Its name for settings and commands.
    :param title: Its name in reports.
    :param make: What makes it: one of ART's classes, or anything that is called alike, with a classifier, `eps` (L∞)
        and `batch_size`, and has `generate(x, y)`.
    :param takes: Which of the settings `steps` and `step_size` it takes besides, and what it calls them.
    :param usual: Whether an audit runs it unless told which to run.
    """

    name: str
    title: str
    make: Callable[..., Any]
    takes: Mapping[str, str] = field(default_factory=dict)
    usual: bool = True

    @property
    def differentiates(self) -> bool:
        """Whether it follows a gradient, so that the chain decides what it finds."""
        return differentiates(self.make)

    def arguments(self, **settings: float) -> dict[str, float]:
        """
        :param settings: `steps`, their number, and `step_size`, α on the data's scale.
        :return: Those that it takes, by its own names.
        """
        return {argument: settings[setting] for setting, argument in self.takes.items()}

    def on(self, classifier: Any, *, eps: float, batch_size: int, **settings: float) -> Any:
        """
        :param classifier: The classifier, from which the gradients are.
        :param eps: Perturbation ε, L∞, on the data's scale.
        :param batch_size: Samples of one call.
        :param settings: `steps`, their number, and `step_size`, α on the data's scale; what it does not take is left.
        :return: The attack.
        """
        return self.make(classifier, eps=eps, batch_size=batch_size, **self.arguments(**settings))


#: Those of this package that are named by their class, beside ART's.
OWN = {each.__name__.lower(): each for each in (BriefPGD, PolishedPGD, Square)}

#: Of an attack of ART's that goes in steps.
IN_STEPS = {"steps": "max_iter", "step_size": "eps_step"}

ATTACKS = Table(
    AttackEntry("fgsm", "FGSM", FastGradientMethod),
    AttackEntry("pgd", "PGD", partial(ProjectedGradientDescent, verbose=False), IN_STEPS),
    AttackEntry("sapgd", "SA-PGD", partial(SAPGD, seed=0, verbose=False), {"steps": "max_iter"}, usual=False),
)


def attack(text: str) -> AttackEntry:
    """
    :param text: The name of an entry, or of a class of :mod:`art.attacks.evasion` or of this package, in any case; with
        parameters, if any, as in `sapgd(max_iter=50)`, which are the class's own.
    :return: The entry of the table; or one of that name for the class, or with those parameters.
    :raises ValueError: If there is no such attack, or it has no such parameter.
    """
    spec = parsed(text)
    entry = ATTACKS.get(spec.name.lower()) or _of_class(spec.name)
    if not spec.arguments:
        return entry
    known = getattr(unwrapped(entry.make), "attack_params", inspect.signature(entry.make).parameters)
    for name in spec.arguments:
        if name not in known:
            raise ValueError(f"{spec.name} has no parameter {name!r}, it has {', '.join(known)}.")
    takes = {setting: argument for setting, argument in entry.takes.items() if argument not in spec.arguments}
    inner = text.strip()[len(spec.name) :]
    return replace(
        entry, name=text, title=f"{entry.title} {inner}", make=partial(entry.make, **spec.arguments), takes=takes
    )


def _of_class(name: str) -> AttackEntry:
    classes = {each.lower(): getattr(evasion, each) for each in dir(evasion)} | OWN
    found = classes.get(name.lower())
    if not inspect.isclass(found) or not issubclass(found, EvasionAttack):
        raise ValueError(f"there is no attack {name!r}: there are {', '.join(ATTACKS)}, and ART's evasion attacks.")
    takes = {"steps": "max_iter"} if {"max_iter", "eps"} <= set(found.attack_params) else {}  # type: ignore[attr-defined]
    return AttackEntry(found.__name__, found.__name__, found, takes, usual=False)


def differentiates(make: Any) -> bool:
    """
    :param make: What makes an attack.
    :return: Whether it follows a gradient, rather than asking for predictions only.
    """
    return getattr(unwrapped(make), "__name__", "") not in QUERIES


def unwrapped(make: Any) -> Any:
    """
    :param make: What makes an attack.
    :return: The class itself, without the arguments that are given already.
    """
    while isinstance(make, partial):
        make = make.func
    return make
