"""What a training run is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from art_snn.chains import CHAINS
from art_snn.datasets.frames import Scale, check_scale
from art_snn.neurons import RESETS

DATA = ("digits", "event-digits", "cifar10", "cifar100", "image-folder", "nmnist", "cifar10dvs", "dvsgesture")
EVENTS = ("event-digits", "nmnist", "cifar10dvs", "dvsgesture")
EMBEDDED = ("digits", "event-digits")
NETWORKS = ("small_cnn", "vgg11", "resnet17", "vgg_dvs")
ATTACKS = ("none", "fgsm", "pgd")
TRAINING_CHAINS = ("stbp", "hart")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One network on one data set; the defaults are the paper's where it gives them (Hao et al., ICLR 2024, A.2.5).

    :param data: One of :data:`DATA`.
    :param root: Folder of the data set, where it is not embedded.
    :param limit: At most so many training and so many test samples; None is all.
    :param size: Height and width of the frames or images; None is the data set's own, 32 x 32 of N-MNIST and the event
        digits.
    :param scale: What event frames are divided by, so that they and ε are on [0, 1]: a number, or `"max"`, the largest
        value in the training and test samples that are loaded, which is kept with the network; None leaves counts.
    :param drop_outside: Whether events outside the sensor are left out, which is said, instead of refused.
    :param network: One of :data:`NETWORKS`.
    :param width: Factor on the channels and hidden units.
    :param time_steps: Number of time steps T.
    :param decay: Membrane factor λ.
    :param threshold: Firing threshold θ.
    :param reset: `"hard"` or `"soft"`.
    :param encoder: `"direct"` or `"poisson"`, for images.
    :param spiking: If False, the same shape with rectifiers.
    :param epochs: Epochs.
    :param batch_size: Samples of one step, over all processes.
    :param learning_rate: Initial learning rate of SGD, which falls to 0 along a cosine.
    :param momentum: Momentum of SGD.
    :param weight_decay: Weight decay of SGD.
    :param augment: Whether images are cropped at random and, where a mirrored image is of the same class, flipped.
    :param attack: Adversarial training: `"none"`, `"fgsm"` or `"pgd"`; every sample is attacked before it is learned.
    :param eps: Perturbation ε of the attack and of the robust accuracy, L∞, on the data's scale; the paper
        gives none for training.
    :param steps: Steps of PGD.
    :param step_size: Step α of PGD; ε/4 if None.
    :param chain: Backward chain of the attack, by name.
    :param gamma: γ of the attack's chain, if it has one; the chain's default if None.
    :param mixed_precision: Whether layers are learned in bfloat16, by torch's autocast; neurons, loss, weights,
        attacks and accuracies stay in float32.
    :param training_chain: `"stbp"`, or `"hart"` for the weight gradient of Eq. 13.
    :param held_out: Training samples that are not learned, for the accuracy and robust accuracy of each epoch.
    :param seed: Seed of weights, order, crops and the held-out part.
    :param data_seed: Seed of the data set's own split and draw.
    :param device: `"cpu"` or `"gpu"`.
    :raises ValueError: If a setting is out of its range, or two of them do not go together.
    """

    data: str = "digits"
    root: str | None = None
    limit: int | None = None
    size: tuple[int, int] | None = None
    scale: Scale | None = None
    drop_outside: bool = False
    network: str = "small_cnn"
    width: float = 1.0
    time_steps: int = 8
    decay: float = 0.9
    threshold: float = 1.0
    reset: str = "hard"
    encoder: str = "direct"
    spiking: bool = True
    epochs: int = 200
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    attack: str = "none"
    eps: float = 2.55 / 255
    steps: int = 5
    step_size: float | None = None
    chain: str = "hart"
    gamma: float | None = None
    training_chain: str = "stbp"
    mixed_precision: bool = False
    held_out: int = 200
    seed: int = 0
    data_seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in (
            ("data", DATA),
            ("network", NETWORKS),
            ("reset", RESETS),
            ("encoder", ("direct", "poisson")),
            ("attack", ATTACKS),
            ("chain", tuple(CHAINS)),
            ("training_chain", TRAINING_CHAINS),
            ("device", ("cpu", "gpu")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        for name, low, high in (
            ("time_steps", 1, 1_000),
            ("epochs", 1, 100_000),
            ("batch_size", 2, 1_000_000),
            ("steps", 1, 10_000),
            ("held_out", 10, 1_000_000),
            ("seed", 0, 2**31 - 2),
            ("data_seed", 0, 2**31 - 2),
            *((("limit", 1, 10**9),) if self.limit is not None else ()),
        ):
            whole = getattr(self, name)
            if isinstance(whole, bool) or not isinstance(whole, int) or not low <= whole <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {whole!r}.")
        for name, above, most in (
            ("width", 0.0, 64.0),
            ("decay", 0.0, 1.0),
            ("threshold", 0.0, math.inf),
            ("learning_rate", 0.0, math.inf),
            ("eps", 0.0, math.inf),
            *((("step_size", 0.0, math.inf),) if self.step_size is not None else ()),
            *((("gamma", 0.0, math.inf),) if self.gamma is not None else ()),
        ):
            number = getattr(self, name)
            if not math.isfinite(number) or not above < number <= most:
                limit = "" if most == math.inf else f" and at most {most:g}"
                raise ValueError(f"{name} must be a number above {above:g}{limit}, got {number!r}.")
        if not 0.0 <= self.momentum < 1.0 or not 0.0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"momentum must be in [0, 1) and weight_decay >= 0, got {self.momentum!r} and {self.weight_decay!r}."
            )
        check_scale(self.scale)
        self._check_together()

    def _check_together(self) -> None:
        if self.data in EMBEDDED and self.root is not None:
            raise ValueError(f"root belongs to data sets on disk; {self.data} is embedded.")
        if self.data not in EMBEDDED and self.root is None:
            raise ValueError(f"root must name the folder of {self.data}.")
        if self.size is not None and self.data in ("digits", "cifar10", "cifar100"):
            raise ValueError(f"size belongs to event data and image-folder; {self.data} has its own.")
        if self.scale is not None and self.data not in EVENTS:
            raise ValueError(f"scale belongs to event data; the images of {self.data} are on [0, 1] already.")
        if self.drop_outside and self.data not in set(EVENTS) - set(EMBEDDED):
            raise ValueError(f"drop_outside belongs to recordings on disk, data is {self.data!r}.")
        if self.data in EVENTS and self.encoder == "poisson":
            raise ValueError("encoder 'poisson' is for images; event frames are spikes already.")
        if self.data not in EVENTS and self.network == "vgg_dvs":
            raise ValueError(f"network vgg_dvs is for event data ({', '.join(EVENTS)}), data is {self.data!r}.")
        if not self.spiking and ((self.attack != "none" and self.chain != "hart") or self.training_chain != "stbp"):
            raise ValueError("chain and training_chain belong to spiking networks; with spiking=False there is none.")
        if not self.spiking and (self.gamma is not None or self.encoder != "direct"):
            raise ValueError("gamma and encoder belong to spiking networks; with spiking=False there are none.")
        if self.gamma is not None and self.chain not in ("hart", "stbp"):
            raise ValueError(f"gamma belongs to the chains hart and stbp, chain is {self.chain!r}.")

    @property
    def alpha(self) -> float:
        """Step α of PGD."""
        return self.step_size if self.step_size is not None else self.eps / 4
