"""On a GPU everything is as on a CPU: gradients, networks of other libraries, noise, training, worst case, audit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from art_snn import LIF, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, adapt, datasets, evaluate, models
from art_snn.chains import ASSG, BPTR, CBA, HART, PDSG, RGA, STBP, AdaptiveHART, AnnealedHART, Mixed, OneStepHART, Rate
from art_snn.cli import main
from art_snn.training.loop import firing_rates

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CHAINS = [HART(), STBP(), RGA(), BPTR(), Rate(), CBA(), Mixed(), PDSG(), ASSG(), ASSG(corrected=True)]
CHAINS += [AdaptiveHART(), AnnealedHART(), OneStepHART(), STBP(detach_reset=True)]
TRAIN = ["train", "--device", "gpu", "--epochs", "8", "--time-steps", "4", "--limit", "1200", "--held-out", "50"]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Without TF32, which rounds so that near the threshold a spike more or less is no error."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def wrapped(network, device, shape=(3, 32, 32)):
    return PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), shape, 10, clip_values=(0, 1), device_type=device)


def vgg():
    torch.manual_seed(0)
    network = models.vgg11(time_steps=4, width=0.25)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that every layer fires
            nn.init.constant_(module.bias, 0.5)
    return network


def images(number, shape=(3, 32, 32)):
    return np.random.default_rng(0).random((number, *shape), np.float32), np.arange(number) % 10


def cosine(one, other):
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_gradients_are_those_of_the_cpu(chain):
    (x, y), found = images(6), {}
    for device in ("cpu", "gpu"):
        classifier = wrapped(vgg(), device)
        assert classifier.device.type == {"cpu": "cpu", "gpu": "cuda"}[device]
        found[device] = classifier.predict(x), classifier.loss_gradient(x, y, chain=chain)
        assert all(rate > 0.01 for rate in firing_rates(classifier, x).values())
    assert np.abs(found["gpu"][0] - found["cpu"][0]).max() < 1e-4
    assert cosine(found["gpu"][1], found["cpu"][1]) > 1 - 1e-4


@pytest.mark.parametrize("chain", [HART(), STBP(), CBA(), ASSG()], ids=repr)
def test_what_tf32_rounds_is_no_false_claim(chain, monkeypatch):
    """The comparisons of first use allow for TF32, which is torch's default for convolutions."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    x, y = images(16)
    rounded, exact = (wrapped(vgg(), device).loss_gradient(x, y, chain=chain) for device in ("gpu", "cpu"))
    assert cosine(rounded, exact) > 0.9


def layers(neuron):
    torch.manual_seed(3)
    conv, linear, readout = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(96, 40), nn.Linear(40, 10)
    return nn.Sequential(conv, neuron(), nn.AvgPool2d(2), nn.Flatten(), linear, neuron(), readout)


def of_spikingjelly():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    return adapt(layers(lambda: neuron.LIFNode(tau=2.0)), 5)


def of_snntorch():
    leaky = pytest.importorskip("snntorch").Leaky
    return adapt(layers(lambda: leaky(beta=0.8, init_hidden=True)), 5, call="step")


def of_norse():
    norse = pytest.importorskip("norse.torch")
    return adapt(norse.SequentialState(*layers(norse.IAFCell)), 5, call="step")


@pytest.mark.parametrize("build", [of_spikingjelly, of_snntorch, of_norse])
@pytest.mark.parametrize("chain", [HART(), STBP(), CBA(), ASSG(), "native"], ids=str)
def test_networks_of_other_libraries(build, chain):
    (x, y), found = images(6, (1, 8, 8)), {}
    for device in ("cpu", "gpu"):
        classifier = wrapped(build().eval(), device, (1, 8, 8))
        found[device] = classifier.loss_gradient(3 * x, y, chain=chain)
    assert np.any(found["cpu"]) and cosine(found["cpu"], found["gpu"]) > 1 - 1e-4


def test_noise_of_a_seed_is_the_same_and_of_another_another():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 80), LIF(0.5), nn.Linear(80, 10))
    x, y = images(8, (1, 8, 8))
    found = []
    for seed in (0, 0, 1):
        network = SpikingNetwork(body, 6, PoissonEncoder(seed=seed))
        classifier = wrapped(network, "gpu", (1, 8, 8))
        found.append((classifier.predict(x), classifier.loss_gradient(x, y, chain="hart")))
    assert np.array_equal(found[0][0], found[1][0]) and not np.array_equal(found[0][0], found[2][0])
    assert cosine(found[0][1], found[1][1]) > 1 - 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that `art-snn train` trained on the GPU, adversarially."""
    folder = tmp_path_factory.mktemp("gpu")
    done = CliRunner().invoke(main, [*TRAIN, "--attack", "fgsm", "--eps", "0.1", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert "test accuracy" in done.output
    return folder


def test_a_network_trained_on_a_gpu_is_read_on_a_cpu(trained):
    _, (x, y), _, _ = datasets.digits(seed=0)
    predictions = []
    for device in ("cpu", "gpu"):
        network = models.load_network(trained / "network").eval()
        predictions.append(wrapped(network, device, (1, 8, 8)).predict(x).argmax(1))
    assert (predictions[0] == y.argmax(1)).mean() > 0.8
    assert (predictions[0] == predictions[1]).mean() > 0.99


def test_it_learns_in_mixed_precision(tmp_path):
    done = CliRunner().invoke(main, [*TRAIN, "--mixed-precision", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "test accuracy" in done.output


def test_the_worst_case_is_that_of_the_cpu(trained):
    _, (x, y), low, high = datasets.digits(seed=0)
    x, y, found = x[:60], y[:60], {}
    for device in ("cpu", "gpu"):
        classifier = wrapped(models.load_network(trained / "network").eval(), device, (1, 8, 8))
        result = found[device] = evaluate(classifier, x, y, eps=0.15, seed=0, verbose=False)
        assert np.abs(result.x_adv - x).max() <= 0.15 + 1e-6
        assert (low <= result.x_adv).all() and (result.x_adv <= high).all()
        fooled = result.fooled_by >= 0
        assert (classifier.predict(result.x_adv[fooled]).argmax(1) != y[fooled].argmax(1)).all()
    assert abs(found["cpu"].robust_accuracy - found["gpu"].robust_accuracy) <= 0.05


def test_an_audit_and_its_report(trained, tmp_path):
    out = tmp_path / "audit"
    options = ["--target", str(trained / "network.json"), "--device", "gpu", "--samples", "40", "--eps", "0.1"]
    done = CliRunner().invoke(main, ["audit", *options, "--plan", "fast", "--entry", "gpu", "--out", str(out)])
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["device"] == "gpu"
    entry = ["verify", str(out / "entry.json"), str(out / "worst_case.npz"), "--network", str(trained / "network.json")]
    checked = CliRunner().invoke(main, [*entry, "--device", "gpu"])
    assert checked.exit_code == 0, checked.output
