"""ART's extraction, inference and poisoning attacks on a spiking classifier."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import art.attacks.extraction
import art.attacks.inference.attribute_inference
import art.attacks.inference.membership_inference
import art.attacks.inference.model_inversion
import art.attacks.poisoning
import numpy as np
from art.attacks import poisoning
from art.attacks.attack import Attack
from art.attacks.extraction import CopycatCNN, KnockoffNets
from art.attacks.inference import attribute_inference, membership_inference, model_inversion
from art.attacks.poisoning.perturbations import add_pattern_bd

from art_snn import models
from art_snn.classifier import Softmax
from integration_tests.art_support.attacks import follow
from integration_tests.art_support.checks import BATCH, CHECKS, EPOCHS, Check, around, digits, fresh, victim
from integration_tests.art_support.settings import classifier, plain, seeded, setting

SECTION = "Extraction, inference and poisoning attacks"
HIDDEN = 10  # a spiking layer of 64 neurons
ONE, TWO = np.eye(10, dtype=np.float32)[1], np.eye(10, dtype=np.float32)[2]

#: Not for spiking networks, and why.
NOT_SPIKING = {
    "FunctionallyEquivalentExtraction": "extracts networks of two dense layers and ReLU",
    "GradientMatchingAttack": "differentiates the weights' gradient in the input, and a spiking network gives the one "
    "or the other",
    "SleeperAgentAttack": "as `GradientMatchingAttack`",
}


def of_class(label: np.ndarray, number: int) -> np.ndarray:
    x, y = digits(1000)
    return x[(y == label).all(1)][:number]


def stolen(attack: Callable[[object], object]) -> Callable[[str], None]:
    """The thief, trained on the victim's answers alone, agrees with it."""

    def run(kind: str) -> None:
        x, y = digits()
        seeded()
        thief = attack(victim(kind)).extract(x, y, thieved_classifier=fresh(kind, seed=1))
        agreement = (thief.predict(x).argmax(1) == victim(kind).predict(x).argmax(1)).mean()
        assert agreement > 0.5, f"agrees on {agreement:.2f}"

    return run


def copycat(estimator):
    return CopycatCNN(estimator, batch_size_fit=BATCH, nb_epochs=EPOCHS, nb_stolen=600)


def knockoff(estimator):
    return KnockoffNets(estimator, batch_size_fit=BATCH, nb_epochs=EPOCHS, nb_stolen=600, verbose=False)


def members(kind: str, where: str = "digits"):
    """Samples that the network was trained on, and others."""
    data = setting(where)
    estimator = around(kind, where, postprocessing_defences=Softmax())
    return estimator, (data.x_train[:60], data.y_train[:60]), (data.x_test[:60], data.y_test[:60])


def guessed(inferred: np.ndarray) -> None:
    assert len(inferred) == 120 and np.isin(inferred, (0, 1)).all()


def membership(kind: str) -> None:
    seeded()
    estimator, inside, outside = members(kind)
    attack = membership_inference.MembershipInferenceBlackBox(estimator, attack_model_type="rf")
    attack.fit(*inside, *outside)
    guessed(np.concatenate([attack.infer(*inside), attack.infer(*outside)]).ravel())


def by_rule(kind: str) -> None:
    estimator, inside, outside = members(kind)
    attack = membership_inference.MembershipInferenceBlackBoxRuleBased(estimator)
    guessed(np.concatenate([attack.infer(*inside), attack.infer(*outside)]).ravel())


def by_distance(kind: str) -> None:
    seeded()
    estimator, inside, outside = members(kind)
    few = {"max_iter": 1, "max_eval": 20, "init_eval": 5, "init_size": 20, "verbose": False}
    attack = membership_inference.LabelOnlyDecisionBoundary(estimator)
    attack.calibrate_distance_threshold(*(part[:4] for part in (*inside, *outside)), **few)
    assert len(attack.infer(inside[0][:4], inside[1][:4], **few)) == 4


def attribute(kind: str) -> None:
    """The brightness of one pixel, from the others and the network's answer."""
    seeded()
    estimator, (x, y), (x_other, y_other) = members(kind, "features")
    attack = attribute_inference.AttributeInferenceBlackBox(estimator, attack_feature=20, is_continuous=True)
    attack.fit(x, y)
    answers = estimator.predict(x_other).argmax(1).reshape(-1, 1)
    guess = attack.infer(np.delete(x_other, 20, axis=1), y_other, pred=answers)
    assert guess.shape[0] == len(x_other) and np.isfinite(guess).all()


def attribute_by_membership(kind: str) -> None:
    seeded()
    estimator, inside, outside = members(kind, "features")
    judge = membership_inference.MembershipInferenceBlackBox(estimator, attack_model_type="rf")
    judge.fit(*inside, *outside)
    attack = attribute_inference.AttributeInferenceMembership(estimator, judge, attack_feature=20)
    guess = attack.infer(np.delete(inside[0], 20, axis=1), inside[1], values=[0.0, 0.5, 1.0])
    assert np.isin(guess, (0.0, 0.5, 1.0)).all()


def face(estimator) -> np.ndarray:
    seeded()
    attack = model_inversion.MIFace(estimator, max_iter=50, threshold=1.0, learning_rate=0.1, verbose=False)
    start = np.full((2, 1, 8, 8), 0.3, np.float32)
    found = attack.infer(start, np.stack([ONE, TWO]))
    gain = estimator.predict(found)[[0, 1], [1, 2]] - estimator.predict(start)[[0, 1], [1, 2]]
    assert (gain > 0).all()
    return found


def bullseye(estimator) -> np.ndarray:
    seeded()
    attack = poisoning.BullseyePolytopeAttackPyTorch(
        estimator, of_class(ONE, 1), HIDDEN, max_iter=5, opt="adam", batch_size=4, verbose=False
    )
    return attack.poison(of_class(TWO, 3), np.stack([TWO] * 3))[0]


def collision(estimator) -> np.ndarray:
    seeded()
    attack = poisoning.FeatureCollisionAttack(estimator, of_class(ONE, 1), HIDDEN, max_iter=3, verbose=False)
    return attack.poison(of_class(TWO, 1))[0]


def trigger() -> poisoning.PoisoningAttackBackdoor:
    return poisoning.PoisoningAttackBackdoor(lambda x: add_pattern_bd(x, channels_first=True))


def hidden(attack: type) -> Callable[[object], np.ndarray]:
    def run(estimator) -> np.ndarray:
        seeded()
        x, y = digits(300)
        made = attack(
            estimator, target=ONE, source=TWO, feature_layer=HIDDEN, backdoor=trigger(), max_iter=5, learning_rate=0.1,
            stopping_threshold=1e-3, batch_size=8, poison_percent=0.2, verbose=False, print_iter=1000,
        )  # fmt: skip
        poison, indices = made.poison(x, y)
        assert np.abs(poison - x[indices]).max() > 0
        return poison

    return run


def clean_label(estimator) -> np.ndarray:
    seeded()
    x, y = digits(200)
    attack = poisoning.PoisoningAttackCleanLabelBackdoor(trigger(), estimator, ONE, max_iter=3)
    attack.attack.set_params(verbose=False)
    poisoned, labels = attack.poison(x, y)
    assert np.array_equal(labels, y) and np.abs(poisoned - x).max() > 0
    return poisoned


def along_the_chain(run: Callable[[object], np.ndarray], where: str = "digits") -> Callable[[str], None]:
    def checked(kind: str) -> None:
        estimator = victim(kind, where)
        if kind == "plain":
            run(estimator)
            return
        _, followed = follow(lambda: run(estimator), estimator)
        assert followed.right(), f"does not follow the chain: {followed}"

    return checked


KNOWN: dict[str, Callable[[str], None]] = {
    "CopycatCNN": stolen(copycat),
    "KnockoffNets": stolen(knockoff),
    "MembershipInferenceBlackBox": membership,
    "MembershipInferenceBlackBoxRuleBased": by_rule,
    "LabelOnlyDecisionBoundary": by_distance,
    "AttributeInferenceBlackBox": attribute,
    "AttributeInferenceMembership": attribute_by_membership,
    "MIFace": along_the_chain(face, "probabilities"),
    "BullseyePolytopeAttackPyTorch": along_the_chain(bullseye),
    "FeatureCollisionAttack": along_the_chain(collision),
    "HiddenTriggerBackdoor": along_the_chain(hidden(poisoning.HiddenTriggerBackdoor)),
    "HiddenTriggerBackdoorPyTorch": along_the_chain(hidden(poisoning.HiddenTriggerBackdoorPyTorch)),
    "HiddenTriggerBackdoorKeras": along_the_chain(hidden(poisoning.HiddenTriggerBackdoorKeras)),
    "PoisoningAttackCleanLabelBackdoor": along_the_chain(clean_label),
}
NOTES = {
    "AttributeInferenceBlackBox": "for feature vectors",
    "AttributeInferenceMembership": "for feature vectors",
    "MIFace": "needs probabilities: `Softmax()` of `art_snn.classifier`",
}


def threats() -> Iterator[type[Attack]]:
    """Attacks that ask for a model and take a plain PyTorch classifier."""
    estimator = classifier(plain(models.small_cnn()), (1, 8, 8))
    modules = (
        art.attacks.extraction,
        art.attacks.inference.membership_inference,
        art.attacks.inference.attribute_inference,
        art.attacks.inference.model_inversion,
        art.attacks.poisoning,
    )
    for module in modules:
        for name, attack in sorted(inspect.getmembers(module, inspect.isclass)):
            needs = getattr(attack, "_estimator_requirements", ()) or ()
            asks = name == "PoisoningAttackCleanLabelBackdoor" or (
                needs and Attack.is_estimator_valid(estimator, needs)
            )
            renamed = name != attack.__name__  # one attack under two names
            if asks and not renamed and not inspect.isabstract(attack) and name not in NOT_SPIKING:
                yield attack


def unknown(attack: type[Attack]) -> Callable[[str], None]:
    return lambda kind: attack(victim(kind))


CHECKS += [
    Check(SECTION, attack.__name__, KNOWN.get(attack.__name__, unknown(attack)), NOTES.get(attack.__name__, ""))
    for attack in threats()
]
