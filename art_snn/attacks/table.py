"""The table of attacks: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent

from art_snn.attacks.sapgd import SAPGD
from art_snn.tables import Table


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

    def on(self, classifier: Any, *, eps: float, batch_size: int, **settings: float) -> Any:
        """
        :param classifier: The classifier, from which the gradients are.
        :param eps: Perturbation ε, L∞, on the data's scale.
        :param batch_size: Samples of one call.
        :param settings: `steps`, their number, and `step_size`, α on the data's scale; what it does not take is left.
        :return: The attack.
        """
        taken = {argument: settings[setting] for setting, argument in self.takes.items()}
        return self.make(classifier, eps=eps, batch_size=batch_size, **taken)


#: Of an attack of ART's that goes in steps.
IN_STEPS = {"steps": "max_iter", "step_size": "eps_step"}

ATTACKS = Table(
    AttackEntry("fgsm", "FGSM", FastGradientMethod),
    AttackEntry("pgd", "PGD", partial(ProjectedGradientDescent, verbose=False), IN_STEPS),
    AttackEntry("sapgd", "SA-PGD", partial(SAPGD, seed=0, verbose=False), {"steps": "max_iter"}, usual=False),
)
