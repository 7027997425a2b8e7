"""What an audit runs."""

from __future__ import annotations

from dataclasses import dataclass

from art_snn import settings as shared
from art_snn.attacks import ATTACKS, AttackEntry, attack
from art_snn.audit.columns import COLUMNS, NO_CHAIN, Column, column
from art_snn.datasets.table import DATASETS
from art_snn.evaluation.plan import PLANS
from art_snn.settings import Each, Number, OneOf, Specs, Whole, setting

SCENARIOS = ("WBA", "BBA")  # white-box and black-box attack

#: Where the search for γ begins: a few points at equal intervals, as the paper recommends (section 4.3), here of log γ,
#: since γ is a scale. γ = 1 is that of training, and plain STBP's.
GAMMAS = (1.0, 2.0, 4.0)

#: How far it goes on, by halving and doubling, where the best γ lies at an edge.
GAMMA_LIMITS = (1 / 32, 32.0)

#: Held-out samples on which γ is chosen.
HELD_OUT = 200

#: The plan of an audit without a worst case.
NO_PLAN = "none"

#: Test samples that the embedded digits have besides.
DIGITS = 609


_DATA = "Data set that network takes, or a file .npz with inputs x `(N, ...)` and labels y, all of them test samples"

#: The data of an audit that is given arrays.
ARRAYS = "arrays"

#: Norms of ε.
NORMS = ("inf", "2")


class DataOrFile(OneOf):
    """A data set's name, or the path of a file of arrays; or :data:`ARRAYS`."""

    def __call__(self, name: str, value: object) -> None:
        if value != ARRAYS and not (isinstance(value, str) and value.endswith(".npz")):
            super().__call__(name, value)


@shared.documented
@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What an audit runs; by default, of a small network on the embedded digits."""

    network: str | None = setting(
        None,
        "A function that returns your own spiking network, or a classifier of one: module:function, or "
        "file.py:function. The test part of data is attacked, of which it must have learned nothing.",
    )
    data: str = setting("digits", _DATA, DataOrFile(DATASETS))
    target: str | None = setting(None, "A network.json of art-snn train: audit that network instead.")
    second: str | None = setting(
        None,
        "One trained like it with another seed, for black-box attacks; with network, another function. Without one, no "
        "black-box attack is run but on the embedded digits.",
    )
    sources: tuple[str, ...] | None = setting(
        None,
        "Further networks for black-box attacks, spiking or not: what their gradients find is shown to the target. "
        "network.json, module:function or file.py:function.",
        unset="none",
    )
    root: str | None = setting(None, "Folder of their data set.", unset="where it was in training")
    eps: float = shared.EPS(0.15, "ε of the tables (L∞), on the data's scale: [0, 1] for images.")
    sweep: tuple[float, ...] | None = setting(
        None, "Further ε of the figure.", Each(Number(above=0.0)), unset="1/3, 2/3, 4/3 and 5/3 of ε"
    )
    plan: str = setting(
        "standard", "Plan of the worst case over many attacks, which is the first figure", OneOf(PLANS, (NO_PLAN,))
    )
    norm: str = setting("inf", "Norm of ε", OneOf(NORMS))
    attacks: tuple[str, ...] = setting(
        ...,
        "Attacks, or classes of ART's evasion attacks, with parameters of theirs in brackets, as in "
        "sapgd(max_iter=50),AutoProjectedGradientDescent",
        Specs(attack, ATTACKS),
    )
    steps: int = shared.STEPS()
    step_size: float | None = shared.STEP_SIZE()
    chains: tuple[str, ...] = setting(
        ...,
        "Backward chains, with parameters in brackets, as in hart(gamma=0.5); -best has the γ that is best, where the "
        "chain's own name has its default",
        Specs(column, COLUMNS),
    )
    gamma: float | None = setting(
        None,
        "γ of the chains that have one chosen, alone or in a mixture.",
        Number(above=0.0),
        unset="chosen on held-out samples, each chain's own",
    )
    time_steps: int = shared.TIME_STEPS()
    decay: float = shared.DECAY()
    reset: str = shared.RESET()
    encoder: str = shared.ENCODER(meaning="Encoding, whose noise is frozen, the same for all attacks")
    epochs: int = shared.EPOCHS(20)
    samples: int = setting(500, f"Test samples to attack, of the digits at most {DIGITS}.", Whole(1, 10**9))
    seed: int = shared.SEED(
        meaning="Seed of data split and target; the second network's is one higher. With a target, of the order of the "
        "test samples."
    )
    same_gradient: bool = setting(
        False, "Give every frame of an event recording the same gradient, the mean of its frames', as the paper does."
    )
    repeats: int = setting(1, "Seeds of each attack's random numbers, from seed on.", Whole(1, 1_000))
    batch_size: int = setting(128, "Samples of one batch, which bounds the memory.", Whole(1, 10**6))
    checks: bool = setting(
        True, "Examine, on some of the samples, whether the figures can be trusted.", off="no-checks"
    )
    device: str = shared.DEVICE()

    def __post_init__(self) -> None:
        shared.check(self)
        self._check_networks()
        given = not shared.is_default(self, "steps") or not shared.is_default(self, "step_size")
        if given and not any(attack(each).takes for each in self.attacks):
            with_steps = [entry.name for entry in ATTACKS.values() if entry.takes]
            raise ValueError(
                f"steps and step_size belong to {', '.join(with_steps)}, none of which is among the attacks."
            )
        if self.gamma is not None and not any(each.tuned for each in self.columns):
            tuned = [each.name for each in COLUMNS.values() if each.tuned]
            raise ValueError(f"gamma belongs to {', '.join(tuned)}, none of which is among the chains.")
        if NO_CHAIN in self.chains:
            raise ValueError(f"chains: {NO_CHAIN} is for networks without spikes, which have it of themselves.")
        if self.sources is not None and len(set(self.sources)) < len(self.sources):
            raise ValueError(f"sources must be different, got {', '.join(self.sources)!r}.")

    @property
    def scenarios(self) -> tuple[str, ...]:
        """White-box; black-box where there is a second network, and from each further source."""
        alone = self.second is None and (self.network is not None or self.target is not None)
        return (*(SCENARIOS[:1] if alone else SCENARIOS), *(f"{SCENARIOS[1]} {each}" for each in self.sources or ()))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The chains."""
        return tuple(column(each) for each in self.chains)

    @property
    def entries(self) -> tuple[AttackEntry, ...]:
        """The attacks."""
        return tuple(attack(each) for each in self.attacks)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the attacks' random numbers."""
        return tuple(range(self.seed, self.seed + self.repeats))

    def _check_networks(self) -> None:
        if self.network is not None:
            self._check_own()
            return
        if not shared.is_default(self, "data"):
            raise ValueError("data belongs to network: target says itself what it learned.")
        if self.target is None and self.second is not None:
            raise ValueError("second belongs to network or target: it is another one like it.")
        if self.target is None:
            self._check_digits()
            return
        self._check_theirs("target")

    def _check_theirs(self, whose: str) -> None:
        for name in ("time_steps", "decay", "reset", "encoder", "epochs"):
            if not shared.is_default(self, name):
                raise ValueError(f"{name} belongs to the embedded network; {whose} has its own.")

    def _check_own(self) -> None:
        if self.target is not None:
            raise ValueError("network and target are two networks to audit: give one of them.")
        self._check_theirs("network")
        entry = DATASETS.get(self.data)
        if entry is None:
            if self.root is not None:
                raise ValueError(f"root belongs to data sets; data is the file {self.data!r}.")
            return
        if entry.embedded and self.root is not None:
            raise ValueError(f"root belongs to data sets with files; {self.data} is embedded.")
        if not entry.embedded and self.root is None:
            raise ValueError(f"root must be given with data={self.data!r}: the folder of the data set.")

    def _check_digits(self) -> None:
        """What of other data is known when they are read."""
        if self.root is not None:
            raise ValueError("root belongs to target; the digits are embedded.")
        most = 1.0 if self.norm == "inf" else 8.0  # the longest way through 64 pixels
        for name, value in (("eps", self.eps), *(("sweep", value) for value in self.sweep or ())):
            Number(above=0.0, most=most)(name, value)
        if self.step_size is not None:
            Number(above=0.0, most=most)("step_size", self.step_size)
        Whole(1, DIGITS)("samples", self.samples)

    def alpha(self, eps: float) -> float:
        """
        :param eps: ε of an attack.
        :return: Its step α.
        """
        return shared.alpha(eps, self.step_size)

    def all_eps(self) -> list[float]:
        """
        :return: Every ε of the audit, in order.
        """
        thirds = [round(self.eps * n / 3, 12) for n in (1, 2, 4, 5)]
        return sorted({self.eps, *(thirds if self.sweep is None else self.sweep)})
