"""What must hold without an oracle, in float64, over random networks, T, λ, θ, resets and γ."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_snn import LIF, EventFrames, SpikingNetwork
from art_snn.chains import CBA, HART, STBP, Mixed
from art_snn.engine import chunk
from art_snn.engine.affine import NotAffine
from art_snn.engine.chunk import footprint
from art_snn.engine.visit import Rule
from art_snn.neurons import SpikingLayer, visiting
from tests import networks as nets

EXACT = 1e-10

many = settings(max_examples=60, deadline=None, derandomize=True)
some = settings(max_examples=25, deadline=None, derandomize=True)


@many
@given(nets.networks(), nets.seeds, nets.chains_with_gain)
def test_collapsed_equals_step_by_step(network, seed, chain):
    x = nets.input_for(network, seed)
    collapsed = nets.gradient(network, x, chain, "collapsed")
    assert network.route.name == "collapsed"
    stepwise = nets.gradient(network, x, chain, "step-by-step")
    assert network.route.name == "step-by-step"
    assert nets.relative(collapsed, stepwise) < EXACT


@some
@given(nets.networks(), nets.seeds, nets.gammas)
def test_at_one_step_hart_equals_stbp(network, seed, gamma):
    network.time_steps = 1
    x = nets.input_for(network, seed)
    assert nets.relative(nets.gradient(network, x, HART(gamma)), nets.gradient(network, x, STBP(gamma))) < EXACT


class TriangleSpike(torch.autograd.Function):
    """A spike whose autograd derivative is Eq. 15: with it, plain autograd makes STBP."""

    @staticmethod
    def forward(ctx, m, threshold, gamma):
        ctx.save_for_backward(m)
        ctx.threshold, ctx.gamma = threshold, gamma
        return (m >= threshold).to(m.dtype)

    @staticmethod
    def backward(ctx, grad):
        (m,) = ctx.saved_tensors
        return grad * (ctx.gamma - (m - ctx.threshold).abs()).clamp(min=0) / ctx.gamma**2, None, None


def unrolled(gamma: float, time_steps: int, batch: int):
    """A visitor that writes Eqs. 1-4 as a plain differentiable loop."""

    def visit(layer: SpikingLayer, x: torch.Tensor) -> torch.Tensor:
        if len(x) == batch:
            x = x.repeat(time_steps, *[1] * (x.dim() - 1))
        v, spikes = torch.zeros_like(x[:batch]), []
        for current in x.unflatten(0, (time_steps, batch)):
            m = layer.decay * v + current
            s = TriangleSpike.apply(m, layer.threshold, gamma)
            v = m - (m - layer.v_rest) * s if layer.reset == "hard" else m - layer.threshold * s
            spikes.append(s)
        return torch.cat(spikes)

    return visit


def unrolled_logits(network: SpikingNetwork, x: torch.Tensor, gamma: float) -> torch.Tensor:
    frames = network.frames(x)
    with visiting(unrolled(gamma, network.time_steps, len(x))):
        return network.body(frames.flatten(0, 1)).unflatten(0, (network.time_steps, len(x))).mean(0)


@many
@given(nets.networks(), nets.seeds, nets.gammas)
def test_stbp_equals_plain_autograd_through_the_unrolled_loop(network, seed, gamma):
    x = nets.input_for(network, seed)
    got = nets.gradient(network, x, STBP(gamma))
    leaf = x.clone().requires_grad_()
    logits = unrolled_logits(network, leaf, gamma)
    nn.functional.cross_entropy(logits, torch.arange(len(x)) % 3).backward()
    assert nets.relative(got, leaf.grad) < EXACT
    with torch.no_grad():
        assert nets.relative(network(x), logits) < EXACT


@some
@given(nets.networks(), nets.seeds)
def test_training_gradient_is_stbp_through_the_unrolled_loop(network, seed):
    x = nets.input_for(network, seed)
    labels = torch.arange(len(x)) % 3
    network.chain = HART()  # an attack's chain never reaches the weights
    names, parameters = zip(*network.named_parameters(), strict=True)
    got = torch.autograd.grad(nn.functional.cross_entropy(network(x), labels), parameters)
    expected = torch.autograd.grad(nn.functional.cross_entropy(unrolled_logits(network, x, 1.0), labels), parameters)
    for name, a, b in zip(names, got, expected, strict=True):
        assert float((a - b).norm()) < 1e-9 * (1 + float(b.norm())), name


@some
@given(nets.networks("direct"), nets.seeds, nets.chains)
def test_event_frames_that_repeat_an_image_give_its_gradient_spread_over_them(network, seed, chain):
    image = nets.image(seed)
    direct = nets.gradient(network, image, chain)
    network.encoder = EventFrames()
    frames = image.unsqueeze(1).repeat(1, network.time_steps, 1, 1, 1)
    spread = nets.gradient(network, frames, chain)
    assert nets.relative(spread.sum(1), direct) < EXACT
    if chain.has_gain:
        assert nets.relative(spread * network.time_steps, direct.unsqueeze(1).expand_as(spread)) < EXACT


@some
@given(nets.networks(), nets.seeds, st.one_of(nets.chains, st.just(CBA()), st.just(Mixed())))
def test_a_samples_gradient_does_not_depend_on_its_batch(network, seed, chain):
    x = nets.input_for(network, seed, batch=4)

    def gradient(x):
        network.chain = chain
        leaf = x.clone().requires_grad_()
        network(leaf)[:, 1].sum().backward()
        return leaf.grad

    together = gradient(x)
    for i in range(len(x)):
        assert nets.relative(gradient(x[i : i + 1]), together[i : i + 1]) < EXACT


@some
@given(nets.networks(), nets.seeds, st.one_of(nets.chains, st.just(Mixed())), st.sampled_from(["auto", "step-by-step"]))
def test_chunks_of_the_batch_give_identical_results(network, seed, chain, route):
    x = nets.input_for(network, seed, batch=5)
    with torch.no_grad():
        logits = network(x)
    whole = nets.gradient(network, x, chain, route)
    largest, total = footprint(network, network.frames(x))
    for bound in (1, 7 * largest, 7 * total):  # chunks of one, and of two samples
        network.memory_bound = bound
        with torch.no_grad():
            assert nets.relative(network(x), logits) < EXACT
        assert nets.relative(nets.gradient(network, x, chain, route), whole) < EXACT


def test_chunks_bound_how_many_samples_run_at_once():
    network, x = nets.build(time_steps=4), nets.image(0, batch=5)
    seen = []
    forward = network.body[0].forward
    network.body[0].forward = lambda x: seen.append(len(x)) or forward(x)
    network.memory_bound = 7 * footprint(network, network.frames(x))[0]  # two samples at a time
    seen.clear()
    with torch.no_grad():
        network(x)
    assert seen == [2, 2, 1]


def test_what_a_chunk_leaves_is_put_in_its_place_before_the_next_begins(monkeypatch):
    network, x = nets.build(time_steps=4), nets.image(0, batch=5)
    network.memory_bound = 7 * footprint(network, network.frames(x))[0]  # two samples at a time
    left, behind = [], []
    run = network.run

    def watched(frames, simulate):
        behind.append(sum(tensor() is not None for tensor in left))
        logits = run(frames, simulate)
        left.extend(weakref.ref(tensor) for _, kept in simulate.visits for tensor in kept)
        return logits

    monkeypatch.setattr(network, "run", watched)
    chunk.simulate_in_chunks(network, network.frames(x), [Rule(HART(), 5)], averages=3)
    assert len(left) > 0 and len(behind) == 3
    assert max(behind) == 0  # what lies behind in small pieces between large tensors fragments the heap


def test_a_layer_whose_shape_changes_with_the_batch_is_not_collapsed():
    """Chunks of another size would leave gains of other shapes."""
    widened = nets.Call(lambda x: nn.functional.pad(x, (0, len(x))))
    network = SpikingNetwork(nn.Sequential(widened, LIF(), nets.Call(lambda x: x.mean((2, 3)))), 4).double().eval()
    x = nets.image(0, batch=5)
    network.memory_bound = 7 * footprint(network, network.frames(x))[0]
    with pytest.raises(NotAffine, match="changes with the batch size"):
        chunk.simulate_in_chunks(network, network.frames(x), [Rule(HART(), 5)])


@some
@given(nets.networks(), nets.seeds, nets.chains, nets.chains, st.floats(-2, 2), st.floats(-2, 2))
def test_a_mixture_is_the_weighted_sum(network, seed, first, second, a, b):
    x = nets.input_for(network, seed)
    mixed = nets.gradient(network, x, Mixed([first, second], [a, b]))
    expected = a * nets.gradient(network, x, first) + b * nets.gradient(network, x, second)
    assert float((mixed - expected).norm()) < EXACT * (1 + float(expected.norm()))


@pytest.mark.parametrize("time_steps", [3, 6])
def test_the_networks_of_these_tests_fire(time_steps):
    rates = []

    def visit(layer, x):
        currents = x.unflatten(0, (time_steps, -1)) if len(x) != 3 else x.expand(time_steps, *x.shape)
        spikes = layer.simulate(currents)
        rates.append(float(spikes.mean()))
        return spikes.flatten(0, 1)

    for kind in nets.KINDS:
        network = nets.build(kind, time_steps=time_steps)
        network.run(network.frames(nets.image(0)), visit)
    assert all(0.0 < rate < 0.9 for rate in rates)
