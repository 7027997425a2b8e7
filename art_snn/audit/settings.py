"""What an audit runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from art_snn.neurons import RESETS

ATTACKS = ("fgsm", "pgd")
SCENARIOS = ("WBA", "BBA")  # white-box and black-box attack

#: Chains of the paper's Table 2 in its order, STBP with the best γ of its Table A1, and the paper's other two.
CHAINS = ("cba", "bptr", "stbp", "stbp-best", "rga", "hart", "rate", "mixed")

#: Chains whose γ is chosen on held-out samples, each for itself; in the mixture it is HART's.
TUNED = ("stbp-best", "hart", "mixed")

#: Where the search for γ begins: a few points at equal intervals, as the paper recommends (section 4.3), here of log γ,
#: since γ is a scale. γ = 1 is that of training, and plain STBP's.
GAMMAS = (1.0, 2.0, 4.0)

#: How far it goes on, by halving and doubling, where the best γ lies at an edge.
GAMMA_LIMITS = (1 / 32, 32.0)

#: Held-out samples on which γ is chosen.
HELD_OUT = 200


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What an audit runs; the defaults are those of the command, which audits a small network on the embedded digits.

    :param target: A network that `art-snn train` wrote, to audit it instead; its file or the name without a suffix.
    :param second: One trained like it with another seed, for black-box attacks; needed with `target`.
    :param root: Folder of their data set, if it has moved.
    :param eps: Perturbation ε of the tables, L∞, on the data's scale: [0, 1] for images.
    :param sweep: Further ε of the figure; 1/3, 2/3, 4/3 and 5/3 of `eps` if None.
    :param attacks: Of `"fgsm"` and `"pgd"`.
    :param steps: Steps of PGD.
    :param step_size: Step α of PGD, on the data's scale; ε/4 if None, the paper's ratio.
    :param chains: Of :data:`CHAINS`.
    :param gamma: γ of HART, alone and in the mixture, and of `stbp-best`; chosen on held-out samples if None.
    :param time_steps: Number of time steps T.
    :param decay: Membrane factor λ.
    :param reset: `"hard"` or `"soft"`.
    :param encoder: `"direct"` or `"poisson"`; Poisson noise is frozen, the same for all attacks.
    :param epochs: Epochs of training.
    :param samples: Test samples that are attacked, at most 609 of the digits.
    :param seed: Seed of the data split and of the target; the second network's is one higher. With `target`, of the
        order of the test samples.
    :param device: `"cpu"` or `"gpu"`.
    :raises ValueError: If a setting is out of its range.
    """

    target: str | None = None
    second: str | None = None
    root: str | None = None
    eps: float = 0.15
    sweep: tuple[float, ...] | None = None
    attacks: tuple[str, ...] = ATTACKS
    steps: int = 5
    step_size: float | None = None
    chains: tuple[str, ...] = CHAINS
    gamma: float | None = None
    time_steps: int = 8
    decay: float = 0.9
    reset: str = "hard"
    encoder: str = "direct"
    epochs: int = 20
    samples: int = 500
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, values, known in (("attacks", self.attacks, ATTACKS), ("chains", self.chains, CHAINS)):
            unknown = [value for value in values if value not in known]
            if unknown or not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different ones of {', '.join(known)}, got {', '.join(values)!r}.")
        self._check_networks()
        span = 1.0 if self.target is None else math.inf  # of the digits; of other data it is known when they are read
        for name, value in (("eps", self.eps), *(("sweep", value) for value in self.sweep or ())):
            _in_range(name, value, 0.0, span)
        if self.step_size is not None:
            _in_range("step_size", self.step_size, 0.0, span)
        if self.gamma is not None:
            _in_range("gamma", self.gamma, 0.0, math.inf)
        _in_range("decay", self.decay, 0.0, 1.0)
        for name, low, high in (
            ("steps", 1, 10_000),
            ("time_steps", 1, 1_000),
            ("epochs", 1, 10_000),
            ("samples", 10, 609 if self.target is None else 10**9),
            ("seed", 0, 2**31 - 2),
        ):
            whole = getattr(self, name)
            if isinstance(whole, bool) or not isinstance(whole, int) or not low <= whole <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {whole!r}.")
        for name, choices in (("reset", RESETS), ("encoder", ("direct", "poisson")), ("device", ("cpu", "gpu"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        if "pgd" not in self.attacks and (self.step_size is not None or self.steps != 5):
            raise ValueError("steps and step_size belong to pgd, which is not among the attacks.")
        if self.gamma is not None and not set(self.chains) & set(TUNED):
            raise ValueError(f"gamma belongs to {', '.join(TUNED)}, none of which is among the chains.")

    def _check_networks(self) -> None:
        if (self.target is None) != (self.second is None):
            raise ValueError("target and second belong together: the network under attack, and one like it.")
        if self.target is None:
            if self.root is not None:
                raise ValueError("root belongs to target; the digits are embedded.")
            return
        fields = type(self).__dataclass_fields__
        for name in ("time_steps", "decay", "reset", "encoder", "epochs"):
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} belongs to the embedded network; target has its own.")

    def alpha(self, eps: float) -> float:
        """
        :param eps: ε of an attack.
        :return: Its step α.
        """
        return self.step_size if self.step_size is not None else eps / 4

    def all_eps(self) -> list[float]:
        """
        :return: Every ε of the audit, in order.
        """
        thirds = [round(self.eps * n / 3, 12) for n in (1, 2, 4, 5)]
        return sorted({self.eps, *(thirds if self.sweep is None else self.sweep)})


def _in_range(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low < value <= high:
        limit = "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name} must be a number above {low:g}{limit}, got {value!r}.")
