"""The later chains in ART's attacks, on images, noise, event frames and networks of other libraries; and the worst
case."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoAttack,
    AutoProjectedGradientDescent,
    DeepFool,
    FastGradientMethod,
    ProjectedGradientDescentPyTorch,
    SquareAttack,
)
from torch import nn

import art_snn
from art_snn import EventFrames, PoissonEncoder, PyTorchSNNClassifier, datasets, models
from art_snn.attacks import SAPGD
from art_snn.chains import ASSG, HART, PDSG, STBP, AdaptiveHART, AnnealedHART, OneStepHART
from art_snn.surrogates import ATan
from integration_tests.long import LONG

CHAINS = [
    AdaptiveHART(),
    AnnealedHART(steps=4),
    OneStepHART(),
    PDSG(),
    ASSG(),
    ASSG(corrected=True),
    STBP(surrogate=ATan(2.0), detach_reset=True),
    HART(surrogate=ATan(2.0)),
]
#: A few steps of each kind of attack of ART's: it asks for gradients, differentiates the model itself, or asks by
#: class.
ATTACKS = {
    "FGSM": lambda c, eps: FastGradientMethod(c, eps=eps),
    "PGD": lambda c, eps: ProjectedGradientDescentPyTorch(c, eps=eps, eps_step=eps / 3, max_iter=4, verbose=False),
    "APGD": lambda c, eps: AutoProjectedGradientDescent(
        c, eps=eps, eps_step=eps, max_iter=3, nb_random_init=1, loss_type="difference_logits_ratio", verbose=False
    ),
    "DeepFool": lambda c, eps: DeepFool(c, max_iter=3, nb_grads=3, verbose=False),
}


@pytest.fixture(scope="module")
def digits():
    (x_train, y_train), (x_test, y_test), _, _ = datasets.digits(seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.small_cnn(time_steps=4, width=0.25)
        classifier = PyTorchSNNClassifier(
            network,
            nn.CrossEntropyLoss(),
            (1, 8, 8),
            10,
            torch.optim.Adam(network.parameters(), 1e-2),
            clip_values=(0, 1),
        )
        classifier.fit(x_train, y_train, batch_size=64, nb_epochs=4)
    right = classifier.predict(x_test).argmax(1) == y_test.argmax(1)
    return classifier, x_test[right][:24], y_test[right][:24]


def fooled(classifier, x, y):
    return (classifier.predict(x).argmax(1) != y.argmax(1)).sum()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_every_kind_of_attack_follows_it(digits, chain, attack):
    classifier, x, y = digits
    classifier.chain = chain
    found = ATTACKS[attack](classifier, 0.2).generate(x.copy(), y)
    assert np.isfinite(found).all() and fooled(classifier, found, y) > fooled(classifier, x, y)
    assert classifier.model.health.chain == repr(chain)


@pytest.mark.parametrize("chain", [ASSG(corrected=True), AnnealedHART(steps=8)], ids=repr)
def test_inside_a_run_an_attack_of_arts_goes_on_with_its_state(digits, chain):
    classifier, x, y = digits
    classifier.chain = chain
    attack = ProjectedGradientDescentPyTorch(classifier, eps=0.1, eps_step=0.02, max_iter=8, verbose=False)
    outside = attack.generate(x.copy(), y)
    with chain.run():
        inside = attack.generate(x.copy(), y)
    assert not np.array_equal(outside, inside)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_noise_and_event_frames(digits, chain):
    _, x, y = digits
    torch.manual_seed(0)
    noisy = PyTorchSNNClassifier(
        models.small_cnn(time_steps=4, width=0.25, encoder=PoissonEncoder(seed=0)),
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        chain=chain,
        gradient_samples=2,
        clip_values=(0, 1),
    )
    found = SAPGD(noisy, eps=0.2, max_iter=4, seed=0, verbose=False).generate(x, y)
    assert np.isfinite(found).all() and not np.array_equal(found, x)
    body = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), art_snn.LIF(), nn.Flatten(), nn.Linear(6 * 36, 4))
    events = PyTorchSNNClassifier(
        art_snn.SpikingNetwork(body, 5, EventFrames()), nn.CrossEntropyLoss(), (5, 2, 6, 6), 4, chain=chain,
        clip_values=(0, 4),
    )  # fmt: skip
    frames = np.random.default_rng(0).poisson(1.0, (6, 5, 2, 6, 6)).clip(0, 4).astype(np.float32)
    labels = events.predict(frames).argmax(1)
    found = SAPGD(events, eps=2.0, max_iter=10, seed=0, verbose=False).generate(frames, labels)
    assert np.abs(found - frames).max() <= 2.0 + 1e-6 and (events.predict(found).argmax(1) != labels).any()


@pytest.mark.parametrize(
    ("samples", "square"),
    [(12, {"max_iter": 500, "nb_restarts": 1}), pytest.param(24, {}, marks=LONG)],
    ids=["shorter", "whole"],
)
def test_the_worst_case_is_no_weaker_than_arts_autoattack(digits, samples, square):
    classifier, x, y = digits
    x, y, eps = x[:samples], y[:samples], 0.05
    classifier.chain = HART()
    attack = AutoAttack(classifier, eps=eps, eps_step=eps / 4, batch_size=24)
    (last,) = (each for each in attack.attacks if isinstance(each, SquareAttack))
    last.set_params(**square)
    by_hand = attack.generate(x.copy(), y)
    by_hand = (classifier.predict(by_hand).argmax(1) == y.argmax(1)).mean()
    result = art_snn.evaluate(classifier, x, y, eps=eps, verbose=False, flags=False)
    assert result.robust_accuracy <= by_hand < result.accuracy


def test_the_worst_case_of_an_adapted_network_leaves_it_as_it_was():
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Flatten(),
        layer.Linear(64, 48),
        neuron.LIFNode(),
        layer.Linear(48, 24),
        neuron.IFNode(),
        layer.Linear(24, 10),
    )
    with torch.no_grad():
        net[1].weight *= 4.0
        net[3].weight *= 4.0
    functional.set_step_mode(net, "m")
    classifier = PyTorchSNNClassifier(art_snn.adapt(net, 4), nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1))
    _, (x, _), _, _ = datasets.digits(seed=0)
    labels = classifier.predict(x[:12]).argmax(1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = art_snn.evaluate(classifier, x[:12], labels, eps=0.15, verbose=False, flags=False)
    assert result.accuracy == 1.0 and result.robust_accuracy < 1.0
    # annealed HART five times, adaptive, HART, ASSG with and without a start value, a mixture, STBP, none for Square
    assert len(set(result.members["chain"])) == 13
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
