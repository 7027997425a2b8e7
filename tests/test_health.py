"""A gradient that cannot move a sample is said, a weight that is no number is an error: neither is robustness."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from torch import nn

from art_snn import PyTorchSNNClassifier
from art_snn.chains import BPTR, CBA, HART, RGA, STBP, Mixed, Rate
from tests import networks as nets

ALL = [HART(), STBP(), RGA(), BPTR(), Rate(), Mixed(), CBA()]


def silenced(place: int = 0):
    """A network one of whose layers gets a current of -50, and so never fires."""
    network = nets.build(seed=3)
    with torch.no_grad():
        network.body[place + 1].bias.fill_(-50.0)
    return network


def wrap(network, **kwargs):
    return PyTorchSNNClassifier(
        network.float(), nn.CrossEntropyLoss(), (2, 6, 6), 3, clip_values=(0, 1), device_type="cpu", **kwargs
    )


X, Y = nets.image(7, 6).float().numpy(), np.arange(6) % 3


@pytest.mark.parametrize("chain", ALL, ids=lambda chain: type(chain).__name__)
def test_an_attack_that_stands_still_says_so_once(chain, caplog):
    classifier = wrap(silenced(), chain=chain)
    attack = ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.05, max_iter=3, verbose=False)
    assert np.array_equal(attack.generate(X, Y), X)
    (record,) = [record for record in caplog.records if record.name.startswith("art_snn")]
    assert record.levelno == logging.WARNING
    assert "6 of 6 samples (100.0%)" in caplog.text and type(chain).__name__ in caplog.text
    assert "body.2" in caplog.text


@pytest.mark.parametrize("chain", ALL, ids=lambda chain: type(chain).__name__)
def test_callers_get_it_as_values(chain):
    network = silenced(place=4)
    nets.gradient(network, nets.image(1), chain)
    health = network.health
    assert (health.samples, health.zero, health.not_finite, health.share) == (3, 3, 0, 1.0)
    assert health.silent == ("body.6",) and health.chain == repr(chain)
    network = nets.build(seed=3)
    assert network.health is None
    nets.gradient(network, nets.image(1), chain)
    assert (network.health.zero, network.health.share, network.health.silent) == (0, 0.0, ())


def test_a_share_of_the_samples_is_counted_and_healthy_networks_are_quiet(caplog):
    network, x = nets.build(seed=3), nets.image(1, 4)
    nets.gradient(network, x, HART())
    assert not caplog.records
    x[:3] = -1e6
    nets.gradient(network, x, HART())
    assert network.health.zero == 3 and network.health.share == 0.75
    assert "3 of 4 samples" in caplog.text


def test_a_loss_that_is_flat_is_no_fault_of_the_network(caplog):
    network = nets.build(seed=3)
    leaf = nets.image(1).requires_grad_()
    (network(leaf) * torch.tensor([[1.0], [0.0], [1.0]])).sum().backward()
    assert (network.health.zero, network.health.without_loss) == (1, 1)
    assert not caplog.records


def test_a_loss_that_is_saturated_is_said_by_the_classifier(caplog):
    network = nets.build(seed=3)
    network.body.append(nn.Linear(3, 3).double())
    with torch.no_grad():
        network.body[-1].weight.mul_(1e4)
    classifier = wrap(network)
    classifier.loss_gradient(X, classifier.predict(X).argmax(1))
    assert network.health.without_loss == network.health.zero > 0
    assert f"for {network.health.zero} of them the loss's own" in caplog.text


class TestWeights:
    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_that_are_no_numbers_are_an_error_that_names_the_layer(self, number):
        classifier = wrap(nets.build(seed=3))
        classifier.predict(X)
        with torch.no_grad():
            classifier.model.body[4].weight[0, 0, 0, 0] = number
        for call in (lambda: classifier.predict(X), lambda: classifier.loss_gradient(X, Y)):
            with pytest.raises(ValueError, match=r"body\.4\.weight holds 1 of 144 numbers that are NaN or infinite"):
                call()

    def test_are_looked_at_again_where_the_gradient_is_none(self):
        network = nets.build(seed=3)
        nets.gradient(network, nets.image(1), STBP())
        network.body[4].weight.data[0, 0, 0, 0] = math.nan  # which torch does not count as a change
        with pytest.raises(ValueError, match=r"body\.4\.weight"):
            nets.gradient(network, nets.image(1), STBP())

    def test_a_statistic_that_is_no_number_is_found_a_mask_of_infinities_is_none(self):
        network = nets.build(seed=3)
        network.body.register_buffer("mask", torch.tensor([0.0, -math.inf, math.nan]))
        network.body.register_parameter("fixed", nn.Parameter(torch.tensor([-math.inf]).double(), requires_grad=False))
        nets.gradient(network, nets.image(1), HART())
        network.body[1].running_var[0] = math.nan
        with pytest.raises(ValueError, match=r"body\.1\.running_var"):
            nets.gradient(network, nets.image(1), HART())


class TestInALargerModel:
    """A spiking network inside another module is trained like any torch module."""

    def model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 2, 1).double(), nets.build(seed=3))

    @pytest.mark.parametrize("attack", [HART(), RGA()], ids=repr)
    @pytest.mark.parametrize("trained_by", [STBP(0.8), HART(0.5)], ids=repr)
    def test_weights_and_input_follow_the_training_chain(self, attack, trained_by):
        model, x = self.model().train(), nets.image(1)
        inner = model[1]
        for module in inner.modules():  # statistics of the batch would hide which chain was followed
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        inner.chain, inner.training_chain = attack, trained_by
        hidden = model[0](x)
        labels = torch.arange(len(x)) % 3
        nn.functional.cross_entropy(inner(hidden), labels).backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
        inner.eval()
        at_hidden = nets.gradient(inner, hidden.detach(), trained_by)
        expected = torch.autograd.grad(model[0](x), model[0].weight, at_hidden)[0]
        assert nets.relative(model[0].weight.grad, expected) < 1e-10

    def test_an_attacks_view_of_a_network_in_training_mode_is_asked_for(self):
        network = nets.build(seed=3).train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        x = nets.image(1)
        expected = nets.gradient(nets.build(seed=3), x, RGA())
        assert nets.relative(nets.gradient(network, x, RGA()), expected) > 0.01
        network.zero_grad()
        with network.attacked():
            assert nets.relative(nets.gradient(network, x, RGA()), expected) < 1e-10
        assert all(parameter.grad is None for parameter in network.parameters())
        classifier = wrap(network)
        classifier.chain = RGA()
        labels = np.arange(len(x)) % 3
        got = classifier.loss_gradient(x.float().numpy(), labels, training_mode=True)
        assert np.isfinite(got).all() and classifier.model.health.chain == "RGA()"
