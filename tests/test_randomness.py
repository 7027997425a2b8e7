"""Bodies that draw random numbers draw them afresh at every pass, and leave the global random state alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from art_snn import PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork
from art_snn.chains import CBA, HART, STBP
from art_snn.randomness import Randomness, mixed_seed
from tests import networks as nets


class Noisy(nn.Module):
    """One factor a pass, drawn from torch's global generator."""

    def forward(self, x):
        return x * (0.5 + torch.rand((), dtype=x.dtype))


class StaysOn(nn.Module):
    """Dropout in evaluation mode too: a randomised defence."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


def dropped() -> SpikingNetwork:
    return nets.build(seed=3, extra=StaysOn())


CHAINS = [HART(), STBP(), CBA()]


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_every_gradient_has_a_draw_of_its_own(chain):
    network, x = dropped(), nets.image(1)
    before = torch.get_rng_state()
    found = [nets.gradient(network, x, chain) for _ in range(4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len({gradient.sum().item() for gradient in found}) == 4


def test_so_has_every_prediction():
    network, x = dropped(), nets.image(1)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_so_has_every_prediction_with_a_graph():
    network, x = dropped(), nets.image(1)
    before = torch.get_rng_state()
    assert not torch.equal(network(x), network(x))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("bound", [2 << 30, 1])
def test_what_is_tried_first_draws_nothing(bound):
    """Whether a collapse was tried, and refused, before: the draws are those of the seed."""
    network, x = dropped(), nets.image(1, 1)
    network.memory_bound = bound
    found = []
    for _ in range(2):
        network.randomness.reseed(3)
        found.append(nets.gradient(network, x, HART()))
    network.randomness.reseed(3)
    found.append(nets.gradient(network, x, HART(), "step-by-step"))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_look_at_silent_layers_draws_nothing():
    network, x = dropped(), nets.image(1)
    with torch.no_grad():
        network.body[1].bias.fill_(-50.0)
    for _ in range(4):
        nets.gradient(network, x, HART())
    assert network.health.silent and network.draws == 4


def test_training_draws_from_torchs_own_state():
    network, x = nets.build(seed=3, extra=nn.Dropout(0.5)).train(), nets.image(1)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(network(x))
    assert torch.equal(*found)


def test_the_same_seed_gives_the_same_draws():
    networks, x = [dropped(), dropped()], nets.image(1)
    one, other = (nets.gradient(network, x, STBP()) for network in networks)
    assert torch.equal(one, other)
    copies = [copy.deepcopy(networks[0]), pickle.loads(pickle.dumps(networks[0]))]
    following = nets.gradient(networks[0], x, STBP())
    assert not torch.equal(following, one)
    assert all(torch.equal(nets.gradient(twin, x, STBP()), following) for twin in copies)
    networks[0].randomness.reseed(networks[1].randomness.seed)
    assert torch.equal(nets.gradient(networks[0], x, STBP()), one)
    networks[0].randomness.reseed(1)
    assert not torch.equal(nets.gradient(networks[0], x, STBP()), one)


def test_a_gradient_in_parts_is_that_of_the_logits_that_were_seen():
    """Each part of the batch has a factor of its own, in its logits and in its gradient."""
    plain, noisy, x = nets.build(seed=3), nets.build(seed=3), nets.image(1)
    noisy.body.append(Noisy().eval())
    results = []
    for network in (plain, noisy):
        network.chain, network.memory_bound = STBP(), 1
        leaf = x.clone().requires_grad_()
        logits = network(leaf)
        results.append((logits.detach(), torch.autograd.grad(logits.sum(), leaf)[0]))
    (logits, gradient), (noisy_logits, noisy_gradient) = results
    factors = (noisy_logits / logits).mean(1)
    assert len(factors.unique()) == 3
    assert nets.relative(noisy_gradient, factors.view(-1, 1, 1, 1) * gradient) < 1e-10


def classifier(network, **kwargs):
    return PyTorchSNNClassifier(
        network.float(), nn.CrossEntropyLoss(), (2, 6, 6), 3, clip_values=(0, 1), device_type="cpu", **kwargs
    )


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("call", ["loss_gradient", "class_gradient"])
def test_gradient_samples_average_whatever_was_drawn(chain, call):
    x, y = nets.image(1).float().numpy(), np.arange(3)
    arguments = (x, y) if call == "loss_gradient" else (x,)
    one, eight = classifier(dropped(), chain=chain), classifier(dropped(), chain=chain, gradient_samples=8)
    expected = np.mean([getattr(one, call)(*arguments) for _ in range(8)], 0)
    assert np.allclose(getattr(eight, call)(*arguments), expected, atol=1e-6)
    assert eight.model.draws == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_too():
    network, x = dropped().float().cuda(), nets.image(1).float().cuda()
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    one, other = (nets.gradient(network, x, STBP()) for _ in range(2))
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before[0]) and torch.equal(torch.cuda.get_rng_state(), before[1])


def test_what_is_drawn_again_is_the_same():
    randomness = Randomness(0)
    with randomness.in_force([]):
        torch.rand(3)
        states = randomness.now()
        drawn = torch.rand(3)
        assert randomness.moved(states)
    for _ in range(2):
        with randomness.in_force([], states):
            assert torch.equal(torch.rand(3), drawn)
    assert randomness.draws == 1


def test_seeds_are_mixed_so_that_none_repeats_in_its_last_32_bits():
    """torch's CPU generator takes no more of a seed: draws that are 2^20 apart repeated after 4,096 of them."""
    seeds = {mixed_seed(0, step << 20) % 2**32 for step in range(20_000)}
    assert len(seeds) > 19_990
    x = torch.full((1, 200), 0.5)
    encoder = PoissonEncoder(seed=0)
    frames = []
    for step in (0, 4096):
        encoder.draws = step << 20
        frames.append(encoder(x, 4))
    assert not torch.equal(*frames)


def test_noise_for_a_whole_batch_goes_into_a_classifier():
    encoder = PoissonEncoder(seed=0)
    encoder.freeze(torch.rand(4, 3, 2, 6, 6))
    wrapped = classifier(nets.build(time_steps=4, encoder=encoder))
    assert wrapped.predict(nets.image(1).float().numpy()).shape == (3, 3) and encoder.is_frozen


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_poisson_encoder_takes_probabilities(value):
    network = nets.build(encoder=PoissonEncoder(seed=0))
    x = nets.image(1)
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"PoissonEncoder takes values in \[0, 1\]"), torch.no_grad():
        network(x)
    x[0, 0, 0, 0] = float(np.float32(1.0) + np.float32(1e-7))
    nets.gradient(network, x, HART())
    with pytest.raises(ValueError, match="PoissonEncoder takes values"):
        classifier(nets.build(encoder=PoissonEncoder(seed=0)), preprocessing=(0.5, 0.25))
