"""Chains with state: what they keep over the gradients of one attack, on every route."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from art_snn import PoissonEncoder, PyTorchSNNClassifier
from art_snn.chains import ASSG, HART, STBP, AnnealedHART, BackwardChain, Mixed
from tests import networks as nets


def slopes(trace):
    """A triangle as wide as |u| was on average, for each sample, neuron and step."""
    (mean,) = trace.state
    return (1.0 - (trace.potentials - trace.threshold).abs() / (2.0 * mean + 0.1)).clamp(min=0.0)


@dataclass(frozen=True)
class Crossing(BackwardChain):
    """Step by step, with a slope that adapts to the gradients before."""

    momentum: float = 0.5

    def init(self, trace):
        return (torch.ones_like(trace.potentials),)

    def update(self, state, trace):
        (mean,) = state
        distance = (trace.potentials - trace.threshold).abs()
        return (self.momentum * mean + (1.0 - self.momentum) * distance,)

    def backward(self, grad_spikes, trace):
        return trace.derivative(grad_spikes, slopes(trace))


@dataclass(frozen=True)
class Merging(Crossing):
    """The same, merged over time: it has a gain."""

    def backward(self, grad_spikes, trace):
        return (grad_spikes * slopes(trace)).mean(0).expand_as(grad_spikes)

    def gain(self, trace):
        return slopes(trace).mean(0)


@dataclass(frozen=True)
class Counting(BackwardChain):
    """Its gradient grows by 1 with every gradient of a run; the state has no time steps."""

    def init(self, trace):
        return (torch.zeros_like(trace.spikes[:1]),)

    def update(self, state, trace):
        return (state[0] + 1.0,)

    def backward(self, grad_spikes, trace):
        return grad_spikes * trace.state[0]

    def gain(self, trace):
        return trace.state[0][0]


CHAINS = [
    Crossing(),
    Merging(),
    Mixed([Merging(), STBP()]),
    Mixed([Crossing(), HART()]),
    ASSG(),
    ASSG(level=0.3, momentum=0.5, corrected=True),
    AnnealedHART(steps=4),
]


def inputs(number=4, seed=0):
    """Three inputs of an attack, each a little further."""
    start = nets.image(seed, number)
    return [start + 0.1 * k * nets.image(seed + k, number) for k in range(3)]


def gradient(network, x, chain):
    """Gradient of a sum over the samples, so that one does not depend on how many there are."""
    network.chain = chain
    leaf = x.clone().requires_grad_()
    network(leaf)[:, 0].sum().backward()
    return leaf.grad


def by_hand(network, xs, chain):
    """The same gradients by the chain's definition, its state kept in a list."""
    network.gradient_route = "step-by-step"
    with chain.run():
        return [gradient(network, x, chain) for x in xs]


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
class TestRun:
    def test_outside_every_gradient_is_the_first_of_a_run(self, chain):
        network, (x, other, _) = nets.build(), inputs()
        first = gradient(network, x, chain)
        gradient(network, other, chain)
        assert torch.equal(gradient(network, x, chain), first)
        with chain.run():
            assert torch.equal(gradient(network, x, chain), first)

    def test_inside_it_goes_on_and_ends_with_the_block(self, chain):
        network, (x, other, _) = nets.build(), inputs()
        alone = gradient(network, other, chain)
        with chain.run():
            first, second, third = (gradient(network, at, chain) for at in (x, other, x))
        assert not torch.allclose(alone, second) and not torch.allclose(first, third)
        with chain.run():
            assert torch.equal(gradient(network, x, chain), first)

    @pytest.mark.parametrize("kind", nets.KINDS)
    def test_all_routes_agree(self, chain, kind):
        network, xs = nets.build(kind), inputs()
        expected = by_hand(nets.build(kind), xs, chain)
        with chain.run():
            for x, wanted in zip(xs, expected, strict=True):
                found = gradient(network, x, chain)
                assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)
                assert wanted.abs().max() > 0

    def test_cutting_a_batch_changes_nothing(self, chain, monkeypatch):
        network, xs = nets.build(), inputs()
        expected = by_hand(nets.build(), xs, chain)
        network.memory_bound = 3 * 2 * 4 * 4 * 36 * 8  # two samples
        monkeypatch.setattr("art_snn.engine.layout.BLOCK", 1)
        with chain.run():
            for x, wanted in zip(xs, expected, strict=True):
                assert torch.allclose(gradient(network, x, chain), wanted, rtol=1e-10, atol=1e-12)

    def test_samples_that_leave_the_batch_keep_their_state(self, chain):
        network, xs = nets.build(), inputs()
        expected = by_hand(nets.build(), xs, chain)
        with chain.run() as run:
            gradient(network, xs[0], chain)
            run.only([3, 1])
            assert torch.allclose(gradient(network, xs[1][[3, 1]], chain), expected[1][[3, 1]], rtol=1e-10, atol=1e-12)
            run.only([1])
            assert torch.allclose(gradient(network, xs[2][[1]], chain), expected[2][[1]], rtol=1e-10, atol=1e-12)
            run.only([0])  # it was away for a gradient
            assert torch.allclose(gradient(network, xs[1][[0]], chain), expected[1][[0]], rtol=1e-10, atol=1e-12)

    def test_pulling_back_twice_counts_once(self, chain):
        network, (x, other, _) = nets.build(), inputs()
        expected = by_hand(nets.build(), [x, other], chain)
        network.chain = chain
        with chain.run():
            leaf = x.clone().requires_grad_()
            logits = network(leaf)
            one, again = (torch.autograd.grad(logits[:, 0].sum(), leaf, retain_graph=True)[0] for _ in range(2))
            assert torch.equal(one, again)
            assert torch.allclose(gradient(network, other, chain), expected[1], rtol=1e-10, atol=1e-12)

    def test_a_forward_pass_that_is_not_pulled_back_counts_nothing(self, chain):
        network, (x, other, _) = nets.build(), inputs()
        first = gradient(network, x, chain)
        with chain.run():
            network.chain = chain
            network(other.clone().requires_grad_())
            assert torch.allclose(gradient(network, x, chain), first, rtol=1e-10, atol=1e-12)

    def test_predictions_see_nothing_of_it(self, chain):
        network, (x, _, _) = nets.build(), inputs()
        before = network(x)
        with chain.run():
            gradient(network, x, chain)
            assert torch.equal(network(x), before)


def classifier(network, **kwargs):
    return PyTorchSNNClassifier(network.float(), nn.CrossEntropyLoss(), (2, 6, 6), 3, **kwargs)


class TestInART:
    def test_class_gradients_count_once(self):
        wrapped, x = classifier(nets.build(), chain=Counting()), inputs()[0].float().numpy()
        with wrapped.chain.run():
            first, second = wrapped.class_gradient(x), wrapped.class_gradient(x)
        assert np.allclose(second, 4.0 * first, rtol=1e-5)  # two spiking layers, each twice

    def test_an_average_over_noise_counts_once(self):
        chain, x = Counting(), inputs()[0].clamp(0, 1).float().numpy()
        y = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
        wrapped = classifier(nets.build(encoder=PoissonEncoder(seed=0)), chain=chain, gradient_samples=5)
        with chain.run():
            for number in (1, 2, 3):
                before = wrapped.model.encoder.draws
                found = wrapped.loss_gradient(x, y)
                after = wrapped.model.encoder.draws
                wrapped.model.encoder.draws = before  # the same noise, in a run that is at its first gradient
                with chain.run():
                    assert np.allclose(found, number**2 * wrapped.loss_gradient(x, y), rtol=1e-4, atol=1e-9)
                assert after - before == 5

    def test_several_chains_out_of_one_simulation(self):
        wrapped, x, y = classifier(nets.build()), inputs()[0].float().numpy(), np.array([0, 1, 2, 0])
        chains = [Merging(), HART(), Crossing()]
        expected = [wrapped.loss_gradient(x, y, chain=chain) for chain in chains]
        with chains[0].run(), chains[2].run():
            assert np.allclose(wrapped.loss_gradients(x, y, chains), expected, rtol=1e-5, atol=1e-9)
            second = wrapped.loss_gradients(x, y, chains)
        changed = [not np.allclose(one, before) for one, before in zip(second, expected, strict=True)]
        assert changed == [True, False, True]


class Checkpointed(nn.Module):
    """A body whose activations are computed again in the backward pass."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=False)


class TestErrors:
    def test_a_batch_of_others(self):
        network, (x, _, _) = nets.build(), inputs()
        with Merging().run() as run:
            gradient(network, x, Merging())
            with pytest.raises(ValueError, match=r"run of Merging is at 4 samples, got a batch of 2.*run.only"):
                gradient(network, x[:2], Merging())
            run.only([0, 1])
            with pytest.raises(ValueError, match="at 2 samples, got a batch of 4"):
                gradient(network, x, Merging())
            run.only(None)
            gradient(network, x, Merging())

    @pytest.mark.parametrize("rows", [[4], [-1], [1, 1]])
    def test_rows_that_are_none(self, rows):
        network, (x, _, _) = nets.build(), inputs()
        with Merging().run() as run:
            with pytest.raises(ValueError, match="rows"):
                run.only([0])
            gradient(network, x, Merging())
            with pytest.raises(ValueError, match="rows must be different samples of 0 to 3"):
                run.only(rows)

    def test_another_number_of_time_steps(self):
        network, (x, _, _) = nets.build(), inputs()
        with Merging().run():
            gradient(network, x, Merging())
            network.time_steps = 5
            with pytest.raises(ValueError, match="run of Merging goes on with a network or input of other shapes"):
                gradient(network, x, Merging())

    def test_state_without_samples(self):
        class Wrong(Merging):
            def init(self, trace):
                return (torch.zeros(3),)

        with pytest.raises(ValueError, match=r"Wrong.init must give a tuple of tensors \(T, B, ...\)"):
            gradient(nets.build(), inputs()[0], Wrong())

    def test_training_has_no_attack_that_it_could_belong_to(self):
        with pytest.raises(ValueError, match="training_chain must have no state, which Merging keeps"):
            nets.build().training_chain = Merging()

    @pytest.mark.parametrize("chain", [Merging(), Crossing()], ids=repr)
    def test_checkpoints_in_the_body(self, chain):
        network = nets.build()
        network.body = Checkpointed(network.body)
        with pytest.raises(ValueError, match="has a state for each visit of a layer, and gradient checkpointing"):
            gradient(network, inputs()[0], chain)
