"""What a training run is."""

from __future__ import annotations

from dataclasses import dataclass

from art_snn import settings as shared
from art_snn.attacks import ATTACKS, AttackEntry
from art_snn.chains.names import everywhere, that_learn, with_gamma
from art_snn.datasets.frames import Scale, check_scale
from art_snn.datasets.table import DATASETS
from art_snn.settings import Number, OneOf, Whole, setting
from art_snn.training.networks import NETWORKS

#: The attack's name where nothing is attacked while learning.
NO_ATTACK = "none"


@shared.documented
@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One network on one data set; the defaults are the paper's where it gives them (Hao et al., ICLR 2024, A.2.5)."""

    data: str = setting("digits", "Data set", OneOf(DATASETS))
    root: str | None = setting(None, "Folder of a data set that is not embedded.")
    limit: int | None = setting(None, "At most so many training and test samples.", Whole(1, 10**9), unset="all")
    size: tuple[int, int] | None = setting(
        None, "Height and width of frames or images, in pixels.", unset="the data set's own"
    )
    scale: Scale | None = setting(  # noqa: RUF009
        None,
        "Divide event frames by this number, so that they and ε are on [0, 1]; max is the largest value in the samples "
        "that are loaded, which is kept with the network.",
        lambda name, value: check_scale(value),
        unset="counts",
    )
    drop_outside: bool = setting(False, "Leave out events outside the sensor, and say so, instead of refusing them.")
    network: str = setting("small_cnn", "Network", OneOf(NETWORKS))
    width: float = setting(1.0, "Factor on the channels.", Number(above=0.0, most=64.0))
    time_steps: int = shared.TIME_STEPS()
    decay: float = shared.DECAY()
    threshold: float = setting(1.0, "Firing threshold θ.", Number(above=0.0))
    reset: str = shared.RESET()
    encoder: str = shared.ENCODER(meaning="Encoding of images")
    spiking: bool = setting(True, "Spikes, or the same shape with rectifiers.", off="ann")
    epochs: int = shared.EPOCHS(200)
    batch_size: int = setting(64, "Samples of one step, over all processes.", Whole(2, 1_000_000))
    learning_rate: float = setting(0.1, "Initial learning rate of SGD; falls to 0 along a cosine.", Number(above=0.0))
    momentum: float = setting(0.9, "Momentum of SGD.", Number(least=0.0, below=1.0))
    weight_decay: float = setting(5e-4, "Weight decay of SGD.", Number(least=0.0))
    augment: bool = setting(True, "Random crops and, where a mirrored sample is of its class, flips.", off="no-augment")
    attack: str = setting(
        NO_ATTACK,
        "What attacks every sample before it is learned, for adversarial training",
        OneOf((NO_ATTACK,), ATTACKS),
    )
    eps: float = shared.EPS(2.55 / 255, "ε (L∞) of the attack and the robust accuracy, on the data's scale.")
    steps: int = shared.STEPS()
    step_size: float | None = shared.STEP_SIZE()
    chain: str = setting("hart", "Backward chain of the attack", OneOf(everywhere))
    gamma: float | None = setting(None, "γ of the attack's chain.", Number(above=0.0), unset="the chain's own")
    training_chain: str = setting("stbp", "Chain of the weights' gradient", OneOf(that_learn))
    mixed_precision: bool = setting(
        False, "Learn in bfloat16 but for the neurons, or in float32.", off="full-precision"
    )
    held_out: int = setting(200, "Training samples kept for the accuracies of each epoch.", Whole(10, 1_000_000))
    seed: int = shared.SEED(meaning="Seed of weights, order and crops.")
    data_seed: int = shared.SEED(meaning="Seed of the data set's split and of the held-out part.")
    device: str = shared.DEVICE()

    def __post_init__(self) -> None:
        shared.check(self)
        self._check_data()
        self._check_chains()

    def _check_data(self) -> None:
        data, network = DATASETS[self.data], NETWORKS[self.network]
        if data.embedded and self.root is not None:
            raise ValueError(f"root belongs to data sets on disk; {self.data} is embedded.")
        if not data.embedded and self.root is None:
            raise ValueError(f"root must name the folder of {self.data}.")
        if self.size is not None and "size" not in data.takes:
            raise ValueError(f"size belongs to {_with('size')}; {self.data} has its own.")
        if self.scale is not None and not data.events:
            raise ValueError(f"scale belongs to event data; the images of {self.data} are on [0, 1] already.")
        if self.drop_outside and "drop_outside" not in data.takes:
            raise ValueError(f"drop_outside belongs to {_with('drop_outside')}; data is {self.data!r}.")
        if data.events and not shared.is_default(self, "encoder"):
            raise ValueError(f"encoder {self.encoder!r} is for images; event frames are spikes already.")
        if network.for_events and not data.events:
            raise ValueError(
                f"network {self.network} is for event data ({_with('time_steps')}), data is {self.data!r}."
            )

    def _check_chains(self) -> None:
        unused = ("training_chain", *(("chain",) if self.adversarial else ()))
        if not self.spiking and not all(shared.is_default(self, name) for name in unused):
            raise ValueError("chain and training_chain belong to spiking networks; with spiking=False there is none.")
        if not self.spiking and not all(shared.is_default(self, name) for name in ("gamma", "encoder")):
            raise ValueError("gamma and encoder belong to spiking networks; with spiking=False there are none.")
        if self.gamma is not None and self.chain not in with_gamma():
            raise ValueError(f"gamma belongs to the chains {', '.join(with_gamma())}, chain is {self.chain!r}.")

    @property
    def alpha(self) -> float:
        """Step α of an attack that goes in steps."""
        return shared.alpha(self.eps, self.step_size)

    @property
    def adversarial(self) -> bool:
        """Whether samples are attacked before they are learned."""
        return self.attack != NO_ATTACK

    @property
    def robust_under(self) -> AttackEntry:
        """The attack of the robust accuracy: that of learning, or else the first of the table, FGSM."""
        return ATTACKS[self.attack if self.adversarial else next(iter(ATTACKS))]

    @property
    def of_events(self) -> bool:
        """Whether samples are event frames."""
        return DATASETS[self.data].events


def _with(argument: str) -> str:
    return ", ".join(name for name, entry in DATASETS.items() if argument in entry.takes)
