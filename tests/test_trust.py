"""Known ways to fool oneself raise their own flag, and a healthy network raises none."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_snn import LIF, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, adapt, datasets, evaluate
from art_snn.attacks import SAPGD, Square
from art_snn.audit import AuditSettings, run_audit
from art_snn.chains import AdaptiveHART, AnnealedHART
from art_snn.evaluation import Flag, Member, WorstCase
from art_snn.evaluation.trust import attacks, few, of_worst_case, planted

EPS = 0.1
PLAN = [Member(SAPGD, AnnealedHART(20), {"max_iter": 20})]


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Fewer samples and steps than usual: the limits are the same."""
    import sys

    monkeypatch.setattr(sys.modules["art_snn.evaluation.trust.examine"], "SAMPLES", 24)
    monkeypatch.setattr(attacks, "LONG", 60)
    monkeypatch.setattr(planted, "TRIED", 5)


@pytest.fixture(scope="module")
def digits():
    (x_train, y_train), (x, y), _, _ = datasets.digits(seed=0)
    return (x_train, y_train), (x[:120], y[:120])


def body(hidden=(60, 40), **neuron):
    sizes = (64, *hidden)
    layers = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), LIF(**neuron)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def wrap(network, **given):
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    return PyTorchSNNClassifier(
        network,
        nn.CrossEntropyLoss(),
        (1, 8, 8),
        10,
        optimizer,
        clip_values=(0.0, 1.0),
        device_type="cpu",
        **given,
    )


def trained(layers, digits, encoder=None, epochs=8, **given):
    torch.manual_seed(0)
    classifier = wrap(SpikingNetwork(layers, 4, encoder), **given)
    classifier.fit(*digits[0], batch_size=64, nb_epochs=epochs)
    classifier.model.eval()
    return classifier


@pytest.fixture(scope="module")
def plain(digits):
    torch.manual_seed(0)
    return trained(body(), digits)


def changed(plain, make):
    """The trained network with something more."""
    import copy

    layers = copy.deepcopy(plain.model.body)
    return wrap(SpikingNetwork(make(layers), 4).eval())


def raised(classifier, digits, plan=PLAN, eps=EPS, **given):
    x, y = digits[1]
    found = evaluate(classifier, x, y, eps=eps, plan=plan, verbose=False, **given)
    assert {check.name for check in found.flags} == {check.name for check in found.checks if check.raised}
    return {check.name: check for check in found.flags}


class Neurons(nn.Module):
    """Somebody's own neurons, whose potential is cut from step to step, and perhaps their current."""

    def __init__(self, cut=False):
        super().__init__()
        self.cut = cut

    def forward(self, x):  # (T*B, ...)
        x, v, spikes = x.unflatten(0, (4, -1)), 0.0, []
        for now in x.detach() if self.cut else x:
            m = 0.9 * v + now
            spikes.append(Spike.apply(m - 1.0))
            v = (m * (1 - spikes[-1])).detach()
        return torch.stack(spikes).flatten(0, 1)


class Spike(torch.autograd.Function):
    """A step whose derivative is a triangle's."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


class Adapted(nn.Module):
    """A network of somebody's, which was trained by its own gradient."""

    def __init__(self, cut=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 60), Neurons(), nn.Linear(60, 40), Neurons(cut), nn.Linear(40, 10)
        )

    def forward(self, x):
        return self.layers(x.repeat(4, 1, 1, 1)).unflatten(0, (4, -1)).mean(0)


class Always(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Leaks(nn.Module):
    """Keeps what it was given last, and adds some of it."""

    def __init__(self):
        super().__init__()
        self.last = 0.0

    def forward(self, x):
        now, self.last = x + self.last, 0.3 * float(x.detach().mean())
        return now


class Beside(nn.Module):
    """A branch of neurons beside the way straight on."""

    def __init__(self, width, threshold):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), LIF(threshold=threshold))

    def forward(self, x):
        return x + self.branch(x)


class TestHealthyNetworks:
    """At an ε at which 20 steps fool all, so that none of them is unfinished."""

    EPS = 0.2

    def test_raise_none(self, plain, digits):
        assert raised(plain, digits, eps=self.EPS) == {}

    def test_of_other_neurons_raise_none(self, digits):
        assert raised(trained(body(decay=0.8, reset="soft"), digits), digits, eps=self.EPS) == {}

    def test_with_frozen_noise_raise_none(self, digits):
        encoder = PoissonEncoder(seed=0)
        classifier = trained(body(), digits, encoder)
        encoder.freeze()
        assert raised(classifier, digits, eps=self.EPS) == {}

    def test_without_spikes_raise_none(self, digits):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
        classifier = PyTorchClassifier(
            network, nn.CrossEntropyLoss(), (1, 8, 8), 10, torch.optim.Adam(network.parameters(), 5e-3),
            clip_values=(0.0, 1.0), device_type="cpu",
        )  # fmt: skip
        classifier.fit(*digits[0], batch_size=64, nb_epochs=8)
        assert raised(classifier, digits, [Member(SAPGD, settings={"max_iter": 20})], self.EPS) == {}

    def test_of_others_raise_none_where_the_potential_is_cut_between_steps(self, learned, digits):
        assert raised(adapted(learned), digits, eps=self.EPS) == {}


@pytest.fixture(scope="module")
def learned(digits):
    torch.manual_seed(0)
    network, (x, y) = Adapted(), digits[0]
    x, y = torch.as_tensor(x), torch.as_tensor(y.argmax(1))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.state_dict()


def adapted(weights, cut=False):
    network = Adapted(cut)
    network.load_state_dict(weights)
    return wrap(adapt(network, 4, call="whole", neurons={Neurons: lambda neurons: LIF()}))


class TestWaysToFoolOneself:
    def test_a_current_that_is_cut_inside_a_network_of_others(self, learned, digits):
        """The network's own gradient is refused; our chains go by the description of the neurons, past the cut."""
        with pytest.raises(ValueError, match="'native' finds no gradient"):
            raised(adapted(learned, cut=True), digits, [Member(SAPGD, "native", {"max_iter": 20})])
        assert raised(adapted(learned, cut=True), digits) == {}

    def test_logits_times_a_thousand(self, plain, digits):
        found = raised(changed(plain, lambda layers: nn.Sequential(*layers, Always(lambda z: 1000 * z))), digits)
        assert "saturated-loss" in found and found["saturated-loss"].value > 0.5

    def test_dropout_that_stays_on(self, plain, digits):
        noisy = Always(lambda s: nn.functional.dropout(s, 0.3, training=True))
        found = raised(changed(plain, lambda layers: nn.Sequential(*layers[:3], noisy, *layers[3:])), digits)
        assert "random-predictions" in found

    def test_an_input_that_is_rounded(self, plain, digits):
        found = raised(
            changed(plain, lambda layers: nn.Sequential(Always(lambda x: (4 * x).round() / 4), *layers)), digits
        )
        assert found["zero-gradient"].value == 1.0

    def test_neurons_that_never_fire_beside_a_skip_connection(self, plain, digits):
        found = raised(changed(plain, lambda layers: nn.Sequential(*layers[:3], Beside(60, 1e3), *layers[3:])), digits)
        assert "body.3.branch.1 never fires" in found["zero-gradient"].meaning

    def test_a_current_that_is_cut(self, plain, digits):
        cut = Always(lambda current: current.detach())
        found = raised(changed(plain, lambda layers: nn.Sequential(*layers[:2], cut, *layers[2:])), digits)
        assert found["zero-gradient"].value == 1.0

    def test_state_left_from_the_last_call(self, plain, digits):
        found = raised(changed(plain, lambda layers: nn.Sequential(*layers[:2], Leaks(), *layers[2:])), digits)
        assert "batch-dependent" in found

    def test_steps_too_few(self, plain, digits):
        weak = [Member(SAPGD, AdaptiveHART(), {"max_iter": 1})]
        assert "unfinished" in raised(plain, digits, weak, eps=0.06)

    def test_an_attack_without_a_gradient_before_one_with(self, plain, digits):
        """Square alone finds what one step of a gradient misses."""
        plan = [Member(SAPGD, AdaptiveHART(), {"max_iter": 1}), Member(Square, None, {"max_iter": 200})]
        found = raised(plain, digits, plan, eps=0.08, every=True)
        assert "query-beats-gradient" in found


class TestRandomPredictions:
    def test_are_judged_by_what_most_of_them_say(self, digits):
        classifier = trained(body(), digits, PoissonEncoder(seed=0), gradient_samples=2)
        x, y = digits[1]
        found = evaluate(classifier, x, y, eps=EPS, plan=PLAN, verbose=False, flags=False)
        low, high = found.repeated
        assert low <= high and classifier.gradient_samples == 2
        assert low - 0.15 <= found.robust_accuracy <= high + 0.15
        again = [classifier.predict(found.x_adv).argmax(1) for _ in range(25)]
        fooled = found.fooled_by >= 0
        wrong = np.mean([each != found.labels for each in again], axis=0)
        assert wrong[fooled].mean() > 0.5  # not by one lucky draw

    def test_that_are_not_have_no_interval(self, plain, digits):
        x, y = digits[1]
        assert evaluate(plain, x, y, eps=EPS, plan=PLAN, verbose=False, flags=False).repeated is None


class TestPlanted:
    def test_is_missed_by_an_attack_along_no_gradient(self, plain, digits, monkeypatch):
        """The same network, whose gradient does not say where to go."""

        class Backwards(SAPGD):
            def step(self, grad, memory, number):
                moved, memory = super().step(grad, memory, number)
                return -moved, memory

        x, y = digits[1]
        right = plain.predict(x).argmax(1) == y.argmax(1)
        sample = attacks.Sample(plain, x[right], y[right].argmax(1), EPS, np.inf, 0, 64)
        assert not planted.flag(sample).raised
        monkeypatch.setattr(planted, "SAPGD", Backwards)
        assert planted.flag(sample).raised

    def test_a_network_without_a_last_linear_layer_is_said(self, plain, digits):
        odd = changed(plain, lambda layers: nn.Sequential(*layers, Always(lambda z: z.abs().sqrt())))
        x, y = digits[1]
        sample = attacks.Sample(odd, x, y.argmax(1), EPS, np.inf, 0, 64)
        found = planted.flag(sample)
        assert found.value is None and not found.raised and "no last linear layer" in found.meaning


class TestFlags:
    def test_few_samples_are_few_for_what_is_claimed(self):
        assert few((0.4, 0.7)).raised and not few((0.45, 0.55)).raised
        assert few((0.45, 0.55), claimed=0.05).raised and not few((0.45, 0.55), claimed=0.12).raised

    def test_another_networks_inputs_that_fool_are_said(self, plain, digits):
        x, y = digits[1]
        members = [Member(SAPGD, AdaptiveHART(), {"max_iter": 1}), Member(SAPGD, AdaptiveHART(), source="second")]
        found = evaluate(plain, x, y, eps=0.05, plan=members, second=plain, verbose=False, flags=False)
        assert "white-below-black" in {check.name for check in of_worst_case(found, members) if check.raised}

    def test_are_kept_with_the_result(self, plain, digits, tmp_path):
        x, y = digits[1]
        found = evaluate(plain, x, y, eps=EPS, plan=PLAN, verbose=False, claimed=0.01)
        found.save(tmp_path / "worst.npz")
        again = WorstCase.load(tmp_path / "worst.npz")
        assert again.checks == found.checks and again.flags[0].name == "few-samples"
        assert json.loads(json.dumps(found.as_dict()))["checks"][0]["name"] == "few-samples"
        assert str(found).startswith("FLAG few-samples")

    def test_of_an_audit_stand_with_it(self, tmp_path):
        settings = AuditSettings(epochs=2, samples=30, time_steps=2, sweep=(), chains=("hart", "rga"), plan="none")
        result = run_audit(settings, tmp_path)
        names = {check.name for check in result.checks}
        assert {"few-samples", "zero-gradient", "white-below-black", "silent-success", "planted-missed"} <= names
        assert run_audit(settings, tmp_path).checks == result.checks
        assert all(isinstance(check, Flag) for check in result.checks)

    def test_what_the_worst_case_fools_another_network_does_not_find_beyond_it(self, tmp_path):
        """Here five steps of PGD miss what the other network's find, and SA-PGD does not."""
        given = {"epochs": 2, "samples": 60, "time_steps": 2, "sweep": (), "chains": ("cba",), "attacks": ("fgsm",)}
        value = {}
        for plan in ("none", "standard"):
            result = run_audit(AuditSettings(plan=plan, eps=0.08, **given), tmp_path)
            (value[plan],) = (check.value for check in result.checks if check.name == "white-below-black")
        white, black = (
            np.array([list(row.outcomes) for row in result.rows if row.scenario == s]) for s in ("WBA", "BBA")
        )
        beyond = (black == "f").any(0) & ~(white == "f").any(0)
        assert value["none"] == beyond.mean() > 0
        assert value["standard"] == (beyond & (result.worst.fooled_by < 0)).mean() < value["none"]

    def test_what_an_attack_passes_and_does_not_return_is_said(self, plain, digits):
        """PGD whose steps are as long as the ball is wide jumps from corner to corner; five short ones do not."""
        pgd = partial(ProjectedGradientDescent, verbose=False)
        jumping = Member(pgd, AdaptiveHART(), {"max_iter": 20, "eps_step": 0.12})
        brief = Member(pgd, AdaptiveHART(), {"max_iter": 5, "eps_step": 0.015})
        found = raised(plain, digits, [jumping], eps=0.06)["silent-success"]
        assert found.value > 0.05 and "PGD-20" in found.meaning
        assert "silent-success" not in raised(plain, digits, [brief], eps=0.06)
