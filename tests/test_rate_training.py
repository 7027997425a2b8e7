"""The weight gradient of Eq. 13 comes out of a single pass, and equals its definition where it can."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_snn.chains import HART, RGA, STBP, Rate
from tests import networks as nets

some = settings(max_examples=40, deadline=None, derandomize=True)


def weight_gradients(network, x, chain, route="auto"):
    network.training_chain, network.gradient_route = chain, route
    labels = torch.arange(len(x)) % 3
    logits = network(x)
    loss = nn.functional.cross_entropy(logits, labels)
    return logits.detach(), torch.autograd.grad(loss, list(network.parameters()))


def flat(gradients) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


@some
@given(nets.networks(), nets.seeds, nets.chains_with_gain)
def test_one_pass_equals_the_step_by_step_weight_gradient(network, seed, chain):
    x = nets.input_for(network, seed)
    stepwise_logits, stepwise = weight_gradients(network, x, chain, "step-by-step")
    logits, one_pass = weight_gradients(network, x, chain, "collapsed")
    assert nets.relative(logits, stepwise_logits) < 1e-10
    assert float((flat(one_pass) - flat(stepwise)).norm()) < 1e-10 * (1 + float(flat(stepwise).norm()))


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize("chain", [HART(), RGA()], ids=["HART", "RGA"])
def test_batch_norm_in_training_mode_has_the_steps_values_and_nearly_their_gradient(kind, chain):
    stepwise_network, network = (nets.build(kind, seed=5, time_steps=4).train() for _ in range(2))
    x = nets.image(1, batch=8)
    stepwise_logits, stepwise = weight_gradients(stepwise_network, x, chain, "step-by-step")
    logits, one_pass = weight_gradients(network, x, chain)
    assert nets.relative(logits, stepwise_logits) < 1e-10
    for a, b in zip(norms(network), norms(stepwise_network), strict=True):
        assert torch.allclose(a.running_mean, b.running_mean, atol=1e-12)
        assert torch.allclose(a.running_var, b.running_var, atol=1e-12)
        assert int(a.num_batches_tracked) == int(b.num_batches_tracked) == 1
    cosine = nn.functional.cosine_similarity(flat(one_pass), flat(stepwise), dim=0)
    assert cosine > 0.95, float(cosine)


@pytest.mark.parametrize("bias", [0.0, 100.0])  # with a large one the comparison of its backward pass steps twice
def test_batch_norm_in_training_mode_keeps_the_single_pass(bias):
    network = nets.build(time_steps=4).train()
    with torch.no_grad():
        [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1].bias.fill_(bias)
    for _ in range(4):  # numbers are compared in the 1st, 2nd and 4th
        weight_gradients(network, nets.image(1, batch=8), HART(), "collapsed")  # an error where it cannot be
    assert not network.seen.refusals


def test_a_body_that_is_not_affine_trains_step_by_step():
    network = nets.build(extra=nn.MaxPool2d(3, 1, 1)).train()
    reference = nets.build(extra=nn.MaxPool2d(3, 1, 1)).train()
    x = nets.image(1)
    _, got = weight_gradients(network, x, HART())
    _, expected = weight_gradients(reference, x, HART(), "step-by-step")
    assert torch.equal(flat(got), flat(expected))
    for buffer, other in zip(network.buffers(), reference.buffers(), strict=True):
        assert torch.equal(buffer, other)
    with pytest.raises(ValueError, match="cannot be taken"):
        weight_gradients(nets.build(extra=nn.MaxPool2d(3, 1, 1)).train(), x, HART(), "collapsed")


class BySizeOfTheBatch(nn.Module):
    def forward(self, x):
        return x * (0.5 + 2.0 / len(x))


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("place", [3, 9], ids=["inside", "at the end"])
def test_a_body_that_computes_with_the_batch_size_trains_step_by_step(place, train):
    networks = [nets.build(seed=3).train(train) for _ in range(2)]
    for network in networks:
        network.body.insert(place, BySizeOfTheBatch())
    x = nets.image(1, batch=8)
    _, got = weight_gradients(networks[0], x, HART())
    _, expected = weight_gradients(networks[1], x, HART(), "step-by-step")
    assert torch.equal(flat(got), flat(expected))


def test_what_a_body_becomes_after_its_first_step_is_seen():
    network, x = nets.build(), nets.image(1)
    _, before = weight_gradients(network, x, HART())
    network.body[3].register_forward_hook(lambda module, args, out: out.relu())
    _, got = weight_gradients(network, x, HART())
    _, expected = weight_gradients(network, x, HART(), "step-by-step")
    assert torch.equal(flat(got), flat(expected)) and not torch.equal(flat(got), flat(before))


@some
@given(nets.networks(), nets.seeds, st.sampled_from([HART(), Rate()]))
def test_training_by_a_chain_leaves_attacks_to_theirs(network, seed, chain):
    x = nets.input_for(network, seed)
    before = nets.gradient(network, x, STBP(0.8))
    weight_gradients(network, x, chain)
    assert torch.equal(nets.gradient(network, x, STBP(0.8)), before)
