"""ART's adversarial trainers: a little training makes the digits network measurably more robust."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from unittest import mock

import art.defences.trainer
import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.defences import trainer as trainers
from art.defences.preprocessor import GaussianAugmentation

from art_snn import PyTorchSNNClassifier
from integration_tests.art_support.attacks import CountingHART, CountingSTBP
from integration_tests.art_support.checks import BATCH, CHECKS, EPOCHS, EPS, Check, accuracy, digits, fresh, public
from integration_tests.art_support.settings import seeded, setting


def pgd(estimator, **kwargs) -> ProjectedGradientDescent:
    arguments = {"eps": EPS, "eps_step": EPS / 2, "max_iter": 3, "verbose": False, **kwargs}
    return ProjectedGradientDescent(estimator, **arguments)


def robust_accuracy(estimator) -> float:
    """Accuracy under PGD along the classifier's own chain."""
    where = setting("digits")
    x, y = where.x_test[:200], where.y_test[:200]
    seeded()
    return accuracy(estimator, pgd(estimator, max_iter=5).generate(x, y), y)


@cache
def undefended(kind: str) -> float:
    estimator = fresh(kind)
    estimator.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)
    return robust_accuracy(estimator)


def adversarial(estimator, attack=None):
    attack = attack or FastGradientMethod(estimator, eps=EPS, batch_size=BATCH)
    trainer = trainers.AdversarialTrainer(estimator, attack, ratio=1.0)
    trainer.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)


def madry(estimator):
    trainer = trainers.AdversarialTrainerMadryPGD(
        estimator, nb_epochs=EPOCHS, batch_size=BATCH, eps=EPS, eps_step=EPS / 2, max_iter=3
    )
    trainer.trainer.attacks[0].set_params(verbose=False)
    trainer.fit(*digits())


def fast(estimator):
    estimator.fit(*digits(), batch_size=BATCH, nb_epochs=1)
    trainers.AdversarialTrainerFBFPyTorch(estimator, eps=EPS).fit(*digits(), batch_size=BATCH, nb_epochs=3 * EPOCHS)


def trades(estimator):
    trainer = trainers.AdversarialTrainerTRADESPyTorch(estimator, pgd(estimator), beta=6.0)
    trainer.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)


def awp(estimator):
    trainer = trainers.AdversarialTrainerAWPPyTorch(
        estimator, copy.deepcopy(estimator), pgd(estimator), mode="PGD", gamma=0.005, beta=6.0, warmup=1
    )
    trainer.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)


def oaat(estimator):
    with tempfile.TemporaryDirectory() as folder:
        parameters = {
            "epsilon": EPS, "i_epsilon": EPS / 2, "mixup_epsilon": EPS, "alternate_iter_eps": EPS / 1.5,
            "max_iter": 3, "norm": np.inf, "beta": 3.0, "beta_final": 5.0, "alpha": 1.0, "mixup_alpha": 0.2,
            "awp_warmup": 1, "awp_gamma": 0.005, "lr": 0.05, "momentum": 0.9, "weight_decay": 2e-4,
            "lr_schedule": "cosine", "oaat_warmup": 0, "swa_save_epoch": 0, "list_swa_epoch": [0],
            "list_swa_tau": [0.9], "load_swa_model_tau": 0.9, "models_path": folder, "lpips_weight": 1.0,
            "i_lpips_weight": 0.0, "layer_names_activation": [0],
        }  # fmt: skip
        others = [copy.deepcopy(estimator) for _ in range(3)]
        trainer = trainers.AdversarialTrainerOAATPyTorch(
            estimator, others[0], others[1], others[2:], pgd(estimator), parameters
        )
        trainer.fit(*digits(), batch_size=BATCH, nb_epochs=2 * EPOCHS)


def instahide(estimator):
    augmentation = GaussianAugmentation(sigma=EPS, augmentation=False)
    trainer = trainers.DPInstaHideTrainer(estimator, augmentation, scale=EPS / 2, clip_values=(0.0, 1.0))
    trainer.fit(*digits(), batch_size=BATCH, nb_epochs=EPOCHS)


def certified(trainer):
    return lambda estimator: trainer(estimator, bound=EPS).fit(*digits(), batch_size=BATCH, nb_epochs=1)


TRAINERS = {
    "AdversarialTrainer": (adversarial, ""),
    "AdversarialTrainerMadryPGD": (madry, ""),
    "AdversarialTrainerFBFPyTorch": (
        fast,
        "its own schedule of learning rates, made for SGD; learns in evaluation mode, in which its attack leaves the "
        "network: fit that for an epoch first, for the statistics of batch norm",
    ),
    "AdversarialTrainerTRADESPyTorch": (trades, ""),
    "AdversarialTrainerAWPPyTorch": (awp, "the proxy classifier is a copy of the classifier"),
    "AdversarialTrainerOAATPyTorch": (
        oaat,
        "ART reads both activations of its LPIPS distance from one dictionary, so that the distance is always 0",
    ),
    "DPInstaHideTrainer": (instahide, "trains on noise, not on adversarial samples"),
    "AdversarialTrainerCertifiedPytorch": (certified(trainers.AdversarialTrainerCertifiedPytorch), ""),
    "AdversarialTrainerCertifiedIBPPyTorch": (certified(trainers.AdversarialTrainerCertifiedIBPPyTorch), ""),
}


@dataclass
class Crossings:
    """How often the chosen chain and STBP crossed a layer in training, and how often in an attack's gradient.

    And how often the network ran to learn in training mode, and in evaluation mode.
    """

    chain: int = 0
    stbp: int = 0
    chain_in_attack: int = 0
    stbp_in_attack: int = 0
    learned: int = 0
    learned_in_evaluation: int = 0


@contextmanager
def counted(estimator: PyTorchSNNClassifier) -> Iterator[Crossings]:
    """Count inside the block, with HART for attacks and STBP for the weights."""
    crossings = Crossings()
    gradient = PyTorchSNNClassifier.loss_gradient

    def loss_gradient(self, *args, **kwargs):
        chain, stbp = CountingHART.calls, CountingSTBP.calls
        result = gradient(self, *args, **kwargs)
        crossings.chain_in_attack += CountingHART.calls - chain
        crossings.stbp_in_attack += CountingSTBP.calls - stbp
        return result

    def passes(network, inputs):
        if torch.is_grad_enabled() and not inputs[0].requires_grad:
            crossings.learned += network.training
            crossings.learned_in_evaluation += not network.training

    estimator.chain, estimator.model.training_chain = CountingHART(1.5), CountingSTBP()
    CountingHART.calls = CountingSTBP.calls = 0
    hook = estimator.model.register_forward_pre_hook(passes)
    with mock.patch.object(PyTorchSNNClassifier, "loss_gradient", loss_gradient), hook:
        yield crossings
    crossings.chain, crossings.stbp = CountingHART.calls, CountingSTBP.calls


def follows_rules(name: str, crossings: Crossings) -> bool:
    """Whether the attack followed the chain and nothing else, and the weights STBP, in the mode that ART trains in."""
    if name == "AdversarialTrainerFBFPyTorch":
        if crossings.learned_in_evaluation <= crossings.learned:
            return False
    elif not crossings.learned or (crossings.learned_in_evaluation and name != "AdversarialTrainerOAATPyTorch"):
        return False
    if name == "DPInstaHideTrainer":  # attacks nothing
        return crossings.chain == 0 and crossings.stbp > 0
    if name == "AdversarialTrainerOAATPyTorch":  # half of its gradients are its own, of the model
        return crossings.chain > crossings.chain_in_attack > 0 == crossings.stbp_in_attack < crossings.stbp
    return crossings.chain == crossings.chain_in_attack > 0 == crossings.stbp_in_attack < crossings.stbp


def train(name: str, kind: str) -> float:
    """
    :return: What the trainer gains in robust accuracy over undefended training.
    """
    estimator = fresh(kind)
    run = TRAINERS[name][0] if name in TRAINERS else lambda made: getattr(trainers, name)(made).fit(*digits())
    if kind == "plain":
        run(estimator)
    else:
        with counted(estimator) as crossings:
            run(estimator)
        assert follows_rules(name, crossings), f"does not follow the chain: {crossings}"
    return robust_accuracy(estimator) - undefended(kind)


def _check(name: str) -> Check:
    def run(kind: str) -> None:
        gain = train(name, kind)
        assert gain > (0.0 if name == "DPInstaHideTrainer" else 0.1), f"robust accuracy gained {gain:.2f}"

    return Check("Trainers", name, run, TRAINERS.get(name, (None, ""))[1])


CHECKS += [_check(name) for name, _ in public(art.defences.trainer)]
