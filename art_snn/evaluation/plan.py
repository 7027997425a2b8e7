"""What a worst case is taken over: members, each an attack with a chain, the cheapest for what it fools first.

A plan by name has no parameters to tune, and a version that is reported with every figure: whoever changes a member
changes the version. What is in it, and why, is in docs/strength.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from art_snn.attacks import SAPGD, BriefPGD, PolishedPGD, Square
from art_snn.attacks.ball import BallAttack
from art_snn.attacks.losses import LOSSES
from art_snn.attacks.table import unwrapped
from art_snn.chains import ASSG, HART, STBP, AdaptiveHART, AnnealedHART, BackwardChain, Mixed, get_chain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.encoders import EventFrames

#: Whose gradient a member follows.
SOURCES = ("target", "second")


@dataclass(frozen=True)
class Member:
    """One attack of a plan.

    :param attack: An attack of :mod:`art_snn.attacks` or of ART: its class, or what is called alike, with a classifier
        and `eps`, and has `generate(x, y)`. `norm`, `batch_size`, `seed` and `verbose` are given if it takes them.
    :param chain: The chain that it follows, a name or an object; None for one that needs no gradient, or where the
        classifier has no chain.
    :param settings: More of its arguments, such as `max_iter`.
    :param targets: How many of the likeliest wrong classes it aims at, one after the other, as a targeted attack; 0 for
        one that is not targeted.
    :param source: `"target"`, or `"second"`: the gradient is that of the second classifier, and what it finds is shown
        to the target.
    :param norm: The norm that it keeps to, if it is another than that of the evaluation.
    :param eps: Its ε in that norm, likewise.
    :raises ValueError: If one of them is out of its range.
    """

    attack: Callable[..., Any]
    chain: BackwardChain | str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    targets: int = 0
    source: str = "target"
    norm: float | None = None
    eps: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.attack):
            raise ValueError(f"attack must be a class of attacks, got {self.attack!r}.")
        if self.chain is not None:
            object.__setattr__(self, "chain", get_chain(self.chain))
        if isinstance(self.targets, bool) or not isinstance(self.targets, int) or self.targets < 0:
            raise ValueError(f"targets must be a whole number >= 0, got {self.targets!r}.")
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {self.source!r}.")
        if self.norm is not None and self.eps is None:
            raise ValueError("eps must be given with norm: it is in that norm.")

    @property
    def name(self) -> str:
        """The attack, in words."""
        attack, said = self.attack, []
        while isinstance(attack, partial):
            said += [f"{name}={value!r}" for name, value in sorted(attack.keywords.items())]
            attack = attack.func
        kind = getattr(attack, "__name__", type(attack).__name__)
        said += [f"{name}={value!r}" for name, value in sorted(self.settings.items())]
        said += [f"targets={self.targets}"] if self.targets else []
        said += [f"{name}={value:g}" for name in ("norm", "eps") if (value := getattr(self, name)) is not None]
        return f"{kind}({', '.join(said)})" + (" from the second classifier" if self.source == "second" else "")

    @property
    def is_stepped(self) -> bool:
        """Whether it is an attack of our own, which keeps a chain's state itself."""
        return inspect.isclass(kind := unwrapped(self.attack)) and issubclass(kind, BallAttack)

    def __str__(self) -> str:
        return self.name if self.chain is None else f"{self.name} along {self.chain!r}"

    def fitted(self, classifier: Any, second: Any = None) -> Member:
        """
        :param classifier: The classifier under attack.
        :param second: Another, if there is one.
        :return: The member as it runs there: with as few classes, and without a chain where there are no spikes.
        """
        nb_classes, settings = classifier.nb_classes, dict(self.settings)
        source = classifier if self.source == "target" else second
        chain = self.chain if isinstance(source, PyTorchSNNClassifier) else None
        objective = LOSSES.get(settings.get("loss_type", ""))
        if objective is not None and nb_classes < objective.classes[self.targets > 0]:
            settings["loss_type"] = "margin"
        return replace(self, chain=chain, settings=settings, targets=min(self.targets, nb_classes - 1))

    def on(self, classifier: Any, **given: Any) -> Any:
        """
        :param classifier: A classifier.
        :param given: What every attack of an evaluation is given; what this one does not take is left.
        :return: The attack.
        """
        known = inspect.signature(self.attack).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        names = getattr(self.attack, "attack_params", given) if open_ended else known
        return self.attack(classifier, **{**{name: given[name] for name in given if name in names}, **self.settings})


@dataclass(frozen=True)
class Plan:
    """A plan by name.

    :param name: Its name.
    :param version: Its version.
    :param members: Its members, in their order.
    :param of_frames: Its members for networks on event frames, if they are others: HART's gradient is the same at all
        time steps, and there each has a frame of its own to change.
    """

    name: str
    version: int
    members: tuple[Member, ...]
    of_frames: tuple[Member, ...] = ()

    def members_for(self, classifier: Any, second: Any = None, norm: float = np.inf) -> list[Member]:
        """
        :param classifier: The classifier under attack.
        :param second: Another, if there is one.
        :param norm: The norm.
        :return: The members that run: one that needs a second classifier, or another norm, is left out where that is
            not there. With fewer classes than DLR needs, the margin takes
            its place.
        """
        frames = isinstance(getattr(classifier.model, "encoder", None), EventFrames)
        members = self.of_frames if frames and self.of_frames else self.members
        there = [each for each in members if second is not None or each.source != "second"]
        there = [each for each in there if norm in getattr(each.attack, "norms", (norm,))]
        found = {str(each): each for each in (one.fitted(classifier, second) for one in there)}
        return list(found.values())  # without spikes, members that differ in the chain alone are one

    def __str__(self) -> str:
        return f"{self.name}, version {self.version}"


def _sapgd(chain: BackwardChain, steps: int, *, targets: int = 0, source: str = "target", **settings: Any) -> Member:
    return Member(SAPGD, chain, {"max_iter": steps, **settings}, targets, source)


def _polished(chain: BackwardChain, steps: int, queries: int, *, targets: int = 0, **settings: Any) -> Member:
    return Member(PolishedPGD, chain, {"max_iter": steps, "queries": queries, **settings}, targets)


def _brief(chain: BackwardChain, steps: int) -> Member:
    return Member(BriefPGD, chain, {"max_iter": steps, "loss_type": "margin"})


_ADAPTIVE, _ASSG, _WIDER = AdaptiveHART(), ASSG(0.46), ASSG(0.425)
_UNBIASED, _WIDER_UNBIASED = ASSG(0.46, corrected=True), ASSG(0.425, corrected=True)
_MARGIN: dict[str, Any] = {"loss_type": "margin"}
_DLR: dict[str, Any] = {"loss_type": "difference_logits_ratio"}

#: The plans, by name.
PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            "standard",
            3,
            (
                _polished(AnnealedHART(20), 20, 25),
                _polished(AnnealedHART(50, 0.25), 50, 50),
                _polished(_ASSG, 50, 50),
                _polished(_WIDER_UNBIASED, 50, 100, **_MARGIN),
                _polished(AnnealedHART(50, 0.25), 50, 100, nb_random_init=2, **_MARGIN),
                _polished(_WIDER_UNBIASED, 100, 50),
                _polished(AnnealedHART(100, 0.25), 100, 100, **_MARGIN),
                _polished(HART(0.125), 100, 100),
                _polished(_UNBIASED, 100, 50, nb_random_init=2, **_MARGIN),
                _polished(Mixed([AnnealedHART(100), _ASSG]), 100, 50),
                _polished(AnnealedHART(200), 200, 100, **_MARGIN),
                _polished(_UNBIASED, 200, 100, nb_random_init=2, **_MARGIN),
                _polished(_WIDER_UNBIASED, 200, 100, **_MARGIN),
                _polished(AnnealedHART(50), 50, 25, **_DLR),
                _polished(_ADAPTIVE, 25, 25, targets=3, **_DLR),
                _polished(STBP(0.25, detach_reset=True), 50, 50, **_MARGIN),
                _sapgd(_ADAPTIVE, 20, source="second", until_fooled=False),
                Member(Square, None, {"max_iter": 300}),
            ),
            of_frames=(
                _sapgd(_WIDER, 100),
                _sapgd(_WIDER, 100, nb_random_init=8, **_MARGIN),
                _sapgd(ASSG(0.4), 100, nb_random_init=8),
                _sapgd(_WIDER, 200, nb_random_init=4, **_MARGIN),
                _sapgd(ASSG(0.425, corrected=True), 100, nb_random_init=4),
                _sapgd(_ASSG, 100, nb_random_init=2),
                _sapgd(STBP(), 50),
                _sapgd(Mixed([HART(), STBP()]), 50),
                _sapgd(_ADAPTIVE, 50),
                _sapgd(_ADAPTIVE, 50, **_DLR),
                _sapgd(HART(0.25), 50),
                _sapgd(_WIDER, 50, targets=3, **_DLR),
                _sapgd(STBP(), 20, source="second", until_fooled=False),
                Member(Square, None, {"max_iter": 500}),
            ),
        ),
        Plan("fast", 4, (_brief(AnnealedHART(6), 6),), of_frames=(_brief(STBP(), 4),)),
    )
}
