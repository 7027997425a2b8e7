"""Every evasion attack of the installed ART that takes a plain PyTorch classifier, on a spiking one.

Attacks are found in ART itself. `CASES` says how to run the known ones with a tiny budget; an attack that is not in it,
of a later ART release, runs with its defaults and what `SMALL` has for its arguments.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import art.attacks.evasion
import numpy as np
import torch
from art.attacks.attack import Attack, EvasionAttack
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import PyTorchClassifier

from art_snn import PyTorchSNNClassifier, models
from art_snn.chains import HART, STBP
from art_snn.neurons import Trace
from integration_tests.art_support.settings import Setting, classifier, plain, seeded

#: What makes an attack short, by the name of its argument.
SMALL = {
    "verbose": False,
    "max_iter": 3,
    "nb_random_init": 1,
    "batch_size": 16,
    "num_trial": 3,
    "nb_steps": 3,
    "steps": 5,
    "binary_search_steps": 2,
    "eps": 0.2,
    "eps_step": 0.1,
}


#: Norms in which an attack gets a row of its own, beside the one that it runs in anyway; some take other values.
NORMS = (1, 2, np.inf)


@dataclass(frozen=True)
class Case:
    """How to run an attack.

    :param setting: On which networks.
    :param arguments: The attack's arguments, where they are not those of `SMALL`; a callable is given the estimator.
    :param samples: How many samples are attacked.
    :param run: From the attack, its samples and their labels to the adversarial samples.
    :param gradient: Whether the attack differentiates the network.
    :param note: What a user must know.
    :param needs: Modules that it needs, beside what art-snn installs.
    :param sure: Whether the tiny budget is sure to change a sample; an attack may give back what it got if it fails.
    :param norms: Values of the attack's `norm` to try, if it has that argument.
    """

    setting: str = "digits"
    arguments: dict[str, Any] | Callable[[Any], dict[str, Any]] = field(default_factory=dict)
    samples: int = 4
    run: Callable[[Any, np.ndarray, np.ndarray], np.ndarray] = lambda attack, x, y: attack.generate(x, y)
    gradient: bool = False
    note: str = ""
    needs: tuple[str, ...] = ()
    sure: bool = True
    norms: tuple[Any, ...] = NORMS

    def all_arguments(self, estimator: Any) -> dict[str, Any]:
        return self.arguments(estimator) if callable(self.arguments) else self.arguments

    def in_norm(self, norm: Any) -> Case:
        """The same in another norm; arguments that depend on it take it."""
        if callable(self.arguments) and "norm" in inspect.signature(self.arguments).parameters:
            return replace(self, arguments=partial(self.arguments, norm=norm))
        return replace(self, arguments=lambda estimator: {**self.all_arguments(estimator), "norm": norm})


def reach(norm: Any) -> int:
    """How much longer a change of all pixels of a digit is than in L∞."""
    return {1: 64, 2: 8}.get(norm, 1)


def other(y: np.ndarray) -> np.ndarray:
    """A wrong class for each sample, for targeted attacks."""
    return np.roll(y, 1, axis=1)


def all_of(label: int, x: np.ndarray) -> np.ndarray:
    """One class for every sample, for targeted attacks; one that this network can be driven to."""
    return np.eye(10, dtype=np.float32)[[label] * len(x)]


def second_best(estimator: PyTorchClassifier, x: np.ndarray) -> np.ndarray:
    """The class nearest to each sample's, for a targeted attack that gives up if it does not get there."""
    return np.eye(10, dtype=np.float32)[estimator.predict(x).argsort(axis=1)[:, -2]]


def patched(attack: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    attack.generate(x, other(y))
    return attack.apply_patch(x, scale=0.5)


def with_basis(attack: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """GeoDA with its basis of low frequencies where it looks for it, in the working directory."""
    size = x.shape[2]
    steps = (np.arange(size) + 0.5) / size
    waves = [np.cos(np.pi * steps * k) * np.sqrt((1 + (k > 0)) / size) for k in range(attack.sub_dim)]
    basis = np.stack([np.outer(u, v).ravel() for u in waves for v in waves], axis=1)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            np.save(f"2d_dct_basis_{attack.sub_dim}_{size}.npy", basis)
            return attack.generate(x, y)
        finally:
            os.chdir(before)


def guided(attack: Any, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
    """Towards the activations of another sample."""
    return np.reshape(attack.generate(x, np.roll(x, 1, axis=0), **kwargs), x.shape)


def detected(estimator: Any, x: torch.Tensor) -> tuple[list, list]:
    """What SNAL asks for: the patches and boxes of the objects that a detector of ART finds."""
    boxes = [torch.as_tensor(found["boxes"]) for found in estimator.predict(x.numpy())]
    return [[] for _ in boxes], boxes


def laser(estimator: Any) -> dict[str, Any]:
    from art.attacks.evasion.laser_attack.laser_attack import LaserBeam, LaserBeamGenerator
    from art.attacks.evasion.laser_attack.utils import Line

    least, most = LaserBeam(380, 1.0, Line(0, 0)), LaserBeam(780, 10.0, Line(3.14, 32))
    return {"iterations": 5, "laser_generator": LaserBeamGenerator(least, most), "random_initializations": 3}


def quick_attacks(estimator: Any, norm: Any = np.inf) -> dict[str, Any]:
    from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack

    # Large, since AutoAttack leaves as it was what it does not fool, which rounding decides where few steps are taken.
    eps = 0.5 * reach(norm)
    shared = {"norm": norm, "eps": eps, "max_iter": 3, "verbose": False}
    return {
        "norm": norm,
        "eps": 0.5,
        "attacks": [
            AutoProjectedGradientDescent(
                estimator, loss_type="cross_entropy", nb_random_init=1, eps_step=eps / 4, **shared
            ),
            AutoProjectedGradientDescent(
                estimator, loss_type="difference_logits_ratio", nb_random_init=1, eps_step=eps / 4, **shared
            ),
            SquareAttack(estimator, **shared),
        ],
    }


def wasserstein(estimator: Any, norm: str = "wasserstein") -> dict[str, Any]:
    return {
        "norm": norm,
        "max_iter": 3,
        "conjugate_sinkhorn_max_iter": 20,
        "projected_sinkhorn_max_iter": 20,
        "eps": 1.0,
        "eps_step": 10.0 if norm == "1" else 1.0,
        "regularization": 100,
    }


GRADIENT = Case(gradient=True)
PROBABILITIES = "needs probabilities: `postprocessing_defences=Softmax()` of `art_snn.classifier`"

CASES: dict[str, Case] = {
    "AdversarialPatch": Case("colour", {"patch_shape": (3, 32, 32)}, run=patched, gradient=True),
    "AdversarialPatchNumpy": Case("colour", run=patched, gradient=True),
    "AdversarialPatchPyTorch": Case("colour", {"patch_shape": (3, 32, 32)}, run=patched, gradient=True),
    "AutoAttack": Case(arguments=quick_attacks, gradient=True, note="needs `multiprocess`, which art-snn installs"),
    "AutoConjugateGradient": Case(arguments={"loss_type": "difference_logits_ratio", "max_iter": 10}, gradient=True),
    "AutoProjectedGradientDescent": Case(arguments={"loss_type": "difference_logits_ratio"}, gradient=True),
    "RescalingAutoConjugateGradient": Case(
        arguments={"loss_type": "difference_logits_ratio", "max_iter": 10}, gradient=True
    ),
    "BasicIterativeMethod": GRADIENT,
    "BoundaryAttack": Case(arguments={"targeted": False, "max_iter": 10}),
    "BrendelBethgeAttack": Case(
        gradient=True,
        arguments={"steps": 30, "lr": 0.1, "norm": 2},
        samples=2,
        norms=(),  # each is compiled anew, which takes a minute
        run=lambda attack, x, y: attack.generate(x, y, x_adv_init=x[::-1].copy()),
        note="draws its start from a random state that cannot be seeded: give `x_adv_init` to repeat a run",
    ),
    "CarliniL0Method": Case(gradient=True, arguments={"learning_rate": 0.5, "max_iter": 10, "initial_const": 10.0}),
    "CarliniL2Method": Case(gradient=True, arguments={"learning_rate": 0.1, "max_iter": 5, "initial_const": 10.0}),
    "CarliniLInfMethod": Case(
        gradient=True,
        arguments={
            "learning_rate": 0.5,
            "max_iter": 20,
            "initial_const": 20.0,
            "largest_const": 100.0,
            "decrease_factor": 0.7,
        },
        samples=2,
    ),
    "CompositeAdversarialAttackPyTorch": Case(
        "colour",
        {"max_iter": 1, "max_inner_iter": 2},
        gradient=True,
        note="needs `kornia`; 32 x 32 colour images only",
        needs=("kornia",),
    ),
    "DeepFool": Case(gradient=True, arguments={"max_iter": 10}),
    "ElasticNet": Case(gradient=True, arguments={"learning_rate": 0.1, "max_iter": 5, "initial_const": 1.0}),
    "FastGradientMethod": GRADIENT,
    "FeatureAdversariesNumpy": Case(
        arguments={"delta": 0.2, "layer": 6},
        samples=2,
        run=lambda attack, x, y: guided(attack, x, y, maxiter=2, maxfun=10, eps=0.05),
        note="finite differences, for which ART's step of 1e-3 is too small to change a spike: give `eps=0.05`",
    ),
    "FeatureAdversariesTensorFlowV2": Case(arguments={"delta": 0.2, "step_size": 0.05}, run=guided),
    "FeatureAdversariesPyTorch": Case(
        arguments={"delta": 0.2, "layer": 6, "step_size": 0.05}, run=guided, gradient=True
    ),
    "FrameSaliencyAttack": Case(
        "events",
        lambda estimator: {"attacker": FastGradientMethod(estimator, eps=2.0), "frame_index": 1},
        gradient=True,
        note="on event frames; ε in counts",
    ),
    "GeoDA": Case(
        arguments={"max_iter": 500, "sub_dim": 5, "sigma": 0.05},
        samples=1,
        run=with_basis,
        note="with NumPy 2 ART cannot compute its DCT basis (`np.mat`): give it as a file in the working directory; "
        "the default `sigma` of 2e-4 is too small to change a spike: give 0.05",
    ),
    "GRAPHITEBlackbox": Case(
        "colour",
        {
            "noise_size": (32, 32),
            "net_size": (32, 32),
            "num_xforms_mask": 5,
            "num_xforms_boost": 5,
            "num_boost_queries": 20,
            "heat_patch_stride": (8, 8),
            "heat_patch_size": (8, 8),
        },
        samples=1,
        run=lambda attack, x, y: attack.generate(x, other(y), x_tar=np.roll(x, 4, axis=3)),
        note="needs `opencv-python-headless`",
        needs=("cv2",),
    ),
    "GRAPHITEWhiteboxPyTorch": Case(
        "colour",
        {
            "net_size": (32, 32),
            "num_xforms": 2,
            "steps": 2,
            "first_steps": 100,
            "num_patches_to_remove": 40,
            "min_tr": 0.5,
            "step_size": 0.02,
            "rotation_range": (-1.0, 1.0),
            "dist_range": (5, 5),
            "off_x_range": (0, 0),
            "off_y_range": (0, 0),
            "crop_percent_range": (0, 0),
            "blur_kernels": (0,),
            "gamma_range": (1.0, 1.0),
        },
        samples=1,
        run=lambda attack, x, y: attack.generate(x, second_best(attack.estimator, x)),
        gradient=True,
        note="needs `opencv-python-headless` and `kornia`",
        needs=("cv2", "kornia"),
        sure=False,
    ),
    "HopSkipJump": Case(arguments={"max_iter": 2, "max_eval": 50, "init_eval": 5}),
    "LaserAttack": Case("channels last", laser, run=lambda attack, x, y: attack.generate(x, y.argmax(1))),
    "LowProFool": Case(
        "features",
        {"n_steps": 5, "eta": 2.0, "threshold": None},
        run=lambda attack, x, y: attack.fit_importances(importance_array=np.ones(64)).generate(x, other(y)),
        samples=20,
        gradient=True,
        note="for feature vectors, not images",
    ),
    "MalwareGDTensorFlow": Case(
        "features",
        {"embedding_weights": np.zeros((257, 8)), "param_dic": {"maxlen": 64, "input_dim": 257, "embedding_size": 8}},
        run=lambda attack, x, y: attack.generate(x, y, sample_sizes=np.full(len(x), 32)),
    ),
    "MomentumIterativeMethod": GRADIENT,
    "NewtonFool": GRADIENT,
    "OverTheAirFlickeringPyTorch": Case("events", {"eps_step": 1.0}, gradient=True, note="on event frames"),
    "OverloadPyTorch": Case(
        "colour", {"num_grid": 4, "threshold": 0.5, "batch_size": 2}, note="for object detectors, of the shape of YOLO"
    ),
    "PixelAttack": Case(arguments={"th": 5, "max_iter": 5}, samples=2, note="needs `cma`", needs=("cma",)),
    "ThresholdAttack": Case(arguments={"th": 200, "max_iter": 20}, samples=2, note="needs `cma`", needs=("cma",)),
    "ProjectedGradientDescent": GRADIENT,
    "ProjectedGradientDescentNumpy": GRADIENT,
    "ProjectedGradientDescentPyTorch": GRADIENT,
    "SaliencyMapMethod": Case(
        gradient=True,
        arguments={"theta": 0.5, "gamma": 0.2},
        run=lambda attack, x, y: attack.generate(x, other(y)),
    ),
    "ShadowAttack": Case("colour", {"batch_size": 8}, samples=1, gradient=True),
    "SignOPTAttack": Case(arguments={"targeted": False, "query_limit": 300, "k": 10}, samples=1),
    "SimBA": Case(
        "probabilities", {"max_iter": 20, "attack": "px", "epsilon": 0.3, "batch_size": 1}, note=PROBABILITIES
    ),
    "SNAL": Case(
        "colour",
        {"candidates": [torch.zeros(3, 8, 8)], "collector": detected, "num_grid": 4},
        note="for object detectors",
    ),
    "SpatialTransformation": Case(arguments={"max_translation": 20, "num_translations": 3, "max_rotation": 20}),
    "SquareAttack": Case(arguments={"max_iter": 10}),
    "TargetedUniversalPerturbation": Case(
        arguments={"attacker": "fgsm", "attacker_params": {"eps": 0.5, "targeted": True}, "eps": 0.5, "max_iter": 1},
        run=lambda attack, x, y: attack.generate(x, all_of(5, x)),
        gradient=True,
    ),
    "UniversalPerturbation": Case(
        arguments={"attacker": "fgsm", "attacker_params": {"eps": 0.4}, "eps": 0.4, "max_iter": 1},
        gradient=True,
    ),
    "VirtualAdversarialMethod": Case(
        "probabilities",
        {"max_iter": 1, "finite_diff": 0.1, "eps": 1.0},
        note=PROBABILITIES + "; finite differences, for which ART's step of 1e-6 is too small to change a spike",
    ),
    "Wasserstein": Case(
        gradient=True,
        arguments=wasserstein,
        samples=2,
        norms=("1", "2", "inf"),  # of its steps
        note="ART's `regularization` of 3000 can overflow: give 100",
    ),
    "ZooAttack": Case(
        arguments={
            "use_resize": False,
            "use_importance": False,
            "nb_parallel": 64,
            "variable_h": 0.2,
            "max_iter": 10,
            "learning_rate": 0.2,
            "initial_const": 10.0,
        },
        samples=1,
        note="finite differences: give a `variable_h` that can change a spike, e.g. 0.2",
    ),
}


def attacks() -> tuple[list[type[EvasionAttack]], list[type[EvasionAttack]]]:
    """
    :return: ART's evasion attacks that a plain PyTorch classifier meets the requirements of, and those that it fails.
    """
    victim = classifier(plain(models.small_cnn()), (1, 8, 8))
    takes, refuses = [], []
    for _, attack in sorted(inspect.getmembers(art.attacks.evasion, inspect.isclass)):
        if issubclass(attack, EvasionAttack) and not inspect.isabstract(attack):
            fits = Attack.is_estimator_valid(victim, attack._estimator_requirements)
            (takes if fits else refuses).append(attack)
    return takes, refuses


def build(attack: type[EvasionAttack], case: Case, estimator: PyTorchClassifier) -> EvasionAttack:
    parameters = inspect.signature(attack.__init__).parameters
    arguments = {name: value for name, value in SMALL.items() if name in parameters}
    arguments |= case.all_arguments(estimator)
    for name in {"eps", "eps_step"} & {*arguments}:
        arguments[name] *= reach(arguments.get("norm"))
    return attack(estimator, **arguments)


def norms(attack: type[EvasionAttack], case: Case) -> Iterator[tuple[Any, Case]]:
    """
    :param attack: An attack.
    :param case: How it is run.
    :return: The norms that it takes beside the one in which the case runs it, and how to run it in each.
    """
    parameter = inspect.signature(attack.__init__).parameters.get("norm")
    if parameter is None:
        return
    victim = classifier(plain(models.small_cnn()), (1, 8, 8))
    usual = case.all_arguments(victim).get("norm", parameter.default)
    for norm in case.norms:
        other = case.in_norm(norm)
        if str(norm) != str(usual):
            try:
                build(attack, other, victim)
            except Exception:  # it does not take this norm
                continue
            yield norm, other


def run(attack: type[EvasionAttack], case: Case, where: Setting, estimator: PyTorchClassifier) -> np.ndarray:
    """Run an attack and check what it gives.

    :return: Adversarial samples.
    :raises AssertionError: If they have the wrong shape, leave the clip values, or are the samples they started from.
    """
    x, y = where.samples(case.samples)
    seeded()
    adversarial = np.asarray(case.run(build(attack, case, estimator), x.copy(), y.copy()))
    low, high = estimator.clip_values
    assert adversarial.shape == x.shape, f"shape {adversarial.shape}"
    assert np.isfinite(adversarial).all(), "not finite"
    assert adversarial.min() >= low - 1e-6 and adversarial.max() <= high + 1e-6, "outside the clip values"
    assert not case.sure or np.abs(adversarial - x).max() > 0, "nothing was changed"
    estimator.predict(adversarial)
    return adversarial


class CountingHART(HART):
    """HART that counts how often it crosses a spiking layer; what is compared on a sample is no such crossing."""

    calls = 0

    def gain(self, trace):
        type(self).calls += type(trace) is Trace
        return super().gain(trace)

    def backward(self, grad_spikes, trace):
        type(self).calls += type(trace) is Trace
        return super().backward(grad_spikes, trace)


class CountingSTBP(STBP):
    """STBP that counts how often it crosses a spiking layer; as above."""

    calls = 0

    def backward(self, grad_spikes, trace):
        type(self).calls += type(trace) is Trace
        return super().backward(grad_spikes, trace)


@dataclass(frozen=True)
class Followed:
    """What an attack did with the chosen chain.

    :param hart: Layers crossed by HART when it was chosen.
    :param stbp: Layers crossed by STBP meanwhile, be it as a chain or as the gradient of the weights.
    :param repeats: Whether the same chain gave the same adversarial samples again.
    :param differs: Whether another chain gave others.
    """

    hart: int
    stbp: int
    repeats: bool
    differs: bool

    def right(self, sure: bool = True) -> bool:
        """
        :param sure: Whether the attack is sure to change a sample, so that another chain must show.
        :return: Whether the chosen chain's gradient, and no other, was used.
        """
        return self.hart > 0 and self.stbp == 0 and self.repeats and (self.differs or not sure)


def follow(attack: Callable[[], np.ndarray], estimator: PyTorchSNNClassifier) -> tuple[np.ndarray, Followed]:
    """Run an attack on a spiking network under HART, and if it differentiates, under HART again and STBP.

    :param attack: Runs the attack, to its adversarial samples.
    :param estimator: Whom it attacks.
    :return: The first run's samples, and what the attack did with the chain.
    """
    chain, training_chain = estimator.chain, estimator.model.training_chain
    CountingHART.calls = CountingSTBP.calls = 0
    estimator.model.training_chain = CountingSTBP()
    try:
        estimator.chain = CountingHART(1.5)
        first = attack()
        hart, stbp = CountingHART.calls, CountingSTBP.calls
        if not hart:
            return first, Followed(0, stbp, True, False)
        second = attack()
        estimator.chain = CountingSTBP(0.5)
        third = attack()
        return first, Followed(hart, stbp, np.array_equal(first, second), not np.array_equal(first, third))
    finally:
        estimator.chain, estimator.model.training_chain = chain, training_chain
