"""Surrogates as values, and the chains that came after HART: what their files say of them, beside the golden
gradients."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_snn import IF, LIF, PyTorchSNNClassifier, SpikingNetwork, surrogates
from art_snn.chains import ASSG, HART, PDSG, STBP, AdaptiveHART, AnnealedHART, OneStepHART
from art_snn.chains.pdsg import spread
from art_snn.neurons import Dynamics, NotGiven
from art_snn.surrogates import (
    ATan,
    Exponential,
    Gaussian,
    Rectangle,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
)
from tests import networks as nets

ALL = [Triangle, Rectangle, Sigmoid, ATan, Exponential, Gaussian]


def gradient(network, chain, x=None):
    network.chain = chain
    leaf = (nets.image(0, 3) if x is None else x).clone().requires_grad_()
    network(leaf)[:, 0].sum().backward()
    return leaf.grad


def gradient_in(unit, chain):
    """The gradient of a network whose potentials and threshold are in another unit."""
    torch.manual_seed(0)
    one, two = nn.Linear(8, 16).double(), nn.Linear(16, 3).double()
    with torch.no_grad():
        one.weight *= unit
        one.bias *= unit
    network = SpikingNetwork(nn.Sequential(one, LIF(0.9, 0.3 * unit), two), time_steps=5).eval()
    return gradient(network, chain, torch.linspace(0, 1, 16, dtype=torch.float64).view(2, 8))


class TestSurrogates:
    @pytest.mark.parametrize("kind", [Triangle, Rectangle, Sigmoid, ATan, Gaussian])
    @pytest.mark.parametrize("width", [0.5, 2.0])
    def test_their_area_is_one(self, kind, width):
        u = torch.linspace(-4000, 4000, 8_000_001, dtype=torch.float64)
        assert float(torch.trapezoid(kind(width).at(u.abs()), u)) == pytest.approx(1.0, abs=3e-3)

    def test_the_others_are_as_high_as_they_say(self):
        u = torch.tensor([0.0, 0.5], dtype=torch.float64)
        assert torch.equal(StraightThrough().at(u), torch.ones(2, dtype=torch.float64))
        assert torch.allclose(Exponential(3.0).at(u), torch.tensor([1.0, math.exp(-1.5)], dtype=torch.float64))

    @pytest.mark.parametrize("kind", ALL)
    def test_the_mean_is_the_mean_and_the_distance_stays(self, kind):
        distance = torch.rand(5, 2, 3, dtype=torch.float64)
        before = distance.clone()
        assert torch.allclose(kind(0.7).mean_at(distance), kind(0.7).at(distance).mean(0))
        assert torch.equal(distance, before)

    @pytest.mark.parametrize("kind", ALL)
    @pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan, "1", True])
    def test_a_parameter_out_of_range_is_named(self, kind, wrong):
        (name,) = [field.name for field in dataclasses.fields(kind)]
        with pytest.raises(ValueError, match=f"{name} must be a finite number > 0"):
            kind(**{name: wrong})

    def test_gamma_is_short_for_the_triangle(self):
        for kind in (STBP, HART):
            assert kind(0.5) == kind(gamma=0.5) == kind(surrogate=Triangle(0.5)) and kind() == kind(1.0)
            assert kind(0.5).gamma == 0.5 and kind(surrogate=ATan()).gamma is None
            assert repr(kind(0.5)) == f"{kind.__name__}(gamma=0.5)"
            assert eval(repr(kind(surrogate=ATan(3.0))), vars(surrogates) | {kind.__name__: kind}).surrogate == ATan(
                3.0
            )
            with pytest.raises(ValueError, match="give one of the two"):
                kind(0.5, surrogate=ATan())
            with pytest.raises(TypeError, match=r"surrogate must be one of art_snn\.surrogates"):
                kind(surrogate="atan")

    def test_chains_differ_by_all_they_are_set_by(self):
        chains = [STBP(), STBP(2.0), STBP(detach_reset=True), STBP(surrogate=ATan()), HART(), HART(surrogate=ATan())]
        assert len(set(chains)) == len(chains) == len({repr(chain) for chain in chains})
        with pytest.raises(ValueError, match="detach_reset must be True or False"):
            STBP(detach_reset=1)

    def test_one_of_ones_own(self):
        class Half(Surrogate):
            def at(self, distance):
                return 0.5 * torch.ones_like(distance)

        network = nets.build()
        expected = 0.5**2 * gradient(nets.build(), HART(surrogate=StraightThrough()))  # two layers in between
        assert torch.allclose(gradient(network, HART(surrogate=Half())), expected)
        with pytest.raises(NotImplementedError, match="Surrogate defines no at"):
            Surrogate().at(torch.ones(1))


@pytest.mark.parametrize("surrogate", [kind(0.8) for kind in ALL], ids=repr)
def test_hart_collapses_with_every_surrogate(surrogate):
    network = nets.build()
    found = gradient(network, HART(surrogate=surrogate))
    assert network.route.name == "collapsed"
    network.gradient_route = "step-by-step"
    assert torch.allclose(gradient(network, HART(surrogate=surrogate)), found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chain", [AdaptiveHART(), AdaptiveHART(level=0.3), AnnealedHART(), OneStepHART()], ids=repr)
class TestAdaptiveHART:
    @pytest.mark.parametrize("kind", nets.KINDS)
    def test_collapsed_is_step_by_step(self, chain, kind):
        network = nets.build(kind)
        found = gradient(network, chain)
        network.gradient_route = "step-by-step"
        assert torch.allclose(gradient(network, chain), found, rtol=1e-10, atol=1e-12) and bool(found.any())

    def test_a_sample_does_not_depend_on_its_batch(self, chain):
        network, x = nets.build(), nets.image(0, 4)
        together = gradient(network, chain, x)
        alone = torch.cat([gradient(network, chain, x[i : i + 1]) for i in range(4)])
        assert torch.allclose(together, alone, rtol=1e-10, atol=1e-12)

    @settings(deadline=None)
    @given(scale=st.sampled_from([1e-1, 1.0, 10.0, 100.0]))
    def test_it_does_not_ask_for_the_scale_of_the_neurons(self, chain, scale):
        """A network with all its potentials in other units has the same gradient, up to that unit and to the 1e-4."""
        grads = []
        for unit in (1.0, scale):
            grads.append(gradient_in(unit, chain))
        assert float((grads[0] - grads[1]).norm()) < 0.03 * float(grads[0].norm())


def test_adaptive_hart_is_heard_at_every_neuron_and_the_triangle_is_not():
    network = nets.build()
    network.chain = AdaptiveHART()
    layer = next(module for module in network.modules() if isinstance(module, LIF))
    trace = layer.trace(3.0 * torch.randn(4, 2, 5, 6, 6, dtype=torch.float64))
    assert bool((AdaptiveHART().gain(trace) > 0).all()) and not bool((HART(0.25).gain(trace) > 0).all())
    level = 0.46
    slopes = ATan(2 * math.tan(math.pi * level) / math.pi / 1.7).at(torch.tensor([0.0]))
    assert float(slopes) == pytest.approx(math.tan(math.pi * level) / math.pi / 1.7)
    mean = trace.distance.mean(0)
    expected = surrogates.arctangent(trace.distance, 2 * math.tan(math.pi * level) / math.pi / (mean + 1e-4)).mean(0)
    assert torch.allclose(AdaptiveHART(level).gain(trace), expected)


class TestAnnealedHART:
    def test_its_width_goes_from_start_to_end_and_stays(self):
        network, chain = nets.build(), AnnealedHART(steps=2, start=1.0, end=0.25)
        assert torch.equal(gradient(network, chain), gradient(network, chain))
        with chain.run():
            for width in (1.0, 0.5, 0.25, 0.25):
                expected = gradient(network, HART(surrogate=ATan(1 / width)))  # the threshold is 1
                assert torch.allclose(gradient(network, chain), expected, rtol=1e-10, atol=1e-14)
                assert network.route.name == "collapsed"

    def test_it_is_in_units_of_the_threshold(self):
        trace = LIF(threshold=0.5).trace(torch.rand(3, 2, 4, dtype=torch.float64))
        chain = AnnealedHART(start=0.8)
        state = chain.update(chain.init(trace), trace)
        found = chain.gain(dataclasses.replace(trace, state=state))
        assert torch.allclose(found, HART(surrogate=ATan(1 / 0.4)).gain(trace))

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 1.5}, {"start": 0.0}, {"end": -1.0}])
    def test_a_parameter_out_of_range_is_named(self, wrong):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            AnnealedHART(**wrong)


def test_the_width_of_one_step_is_the_mean_distance_of_the_layer():
    trace = IF().trace(torch.rand(3, 2, 4, 5, 5, dtype=torch.float64))
    for sample in range(2):
        gamma = float(trace.distance[:, sample].mean())
        expected = Triangle(gamma).mean_at(trace.distance[:, sample])
        assert torch.allclose(OneStepHART().gain(trace)[sample], expected)


class TestHeldReset:
    def test_neurons_that_hold_it_themselves_give_the_same(self):
        own, chained = nets.build(), nets.build()
        for layer in own.modules():
            if isinstance(layer, LIF):
                layer.detach_reset = True
        expected = gradient(own, STBP())
        assert torch.allclose(gradient(chained, STBP(detach_reset=True)), expected, rtol=1e-12, atol=1e-14)
        assert not torch.allclose(gradient(chained, STBP()), expected)
        assert torch.equal(gradient(own, STBP(detach_reset=True)), expected)

    def test_neurons_given_by_equations_hold_it_too(self):
        class Own(Dynamics):
            threshold = 1.0

            def charge(self, v, current):
                return 0.9 * v + current

            def settle(self, m, spike):
                return m * (1 - spike)

        def network(neurons):
            torch.manual_seed(0)
            body = nn.Sequential(nn.Linear(6, 12), neurons, nn.Linear(12, 3)).double()
            return SpikingNetwork(body, time_steps=4).eval()

        x = 2 * torch.rand(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found, expected = (gradient(network(n), STBP(detach_reset=True), x) for n in (Own(), LIF(detach_reset=True)))
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12) and bool(found.any())

    def test_half_precision_is_refused(self):
        trace = LIF().trace(torch.rand(2, 1, 3).half())
        with pytest.raises(NotGiven, match=r"held constant in float32 and float64, and torch\.float16"):
            trace.derivative(torch.ones_like(trace.spikes), torch.ones_like(trace.spikes), detach_reset=True)


class TestPDSG:
    def test_its_spread_is_torchs_standard_deviation(self):
        for shape in ((4, 2, 3, 5, 5), (4, 2, 7), (1, 2, 3, 5)):
            m = torch.randn(shape, dtype=torch.float64)
            found = spread(m)
            over = (0, *range(3, len(shape))) if len(shape) > 3 else (0, 2)
            for t in range(shape[0]):
                assert torch.allclose(found[t], m[: t + 1].std(over, keepdim=True)[0], rtol=1e-10)

    def test_where_it_is_not_defined_it_is_one(self):
        assert torch.equal(spread(torch.ones(3, 2, 4, 2, 2)), torch.ones(3, 2, 4, 1, 1))
        assert torch.equal(spread(torch.rand(1, 2, 1)), torch.ones(1, 2, 1))
        assert torch.equal(spread(1e6 * torch.ones(3, 1, 2, 8) / 3), torch.ones(3, 1, 2, 1))

    def test_a_layer_that_nothing_reaches_gives_a_finite_gradient(self):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(4, 3, bias=False), LIF(), nn.Linear(3, 2))
        with torch.no_grad():
            body[0].weight.zero_()
        assert bool(torch.isfinite(gradient(SpikingNetwork(body, 3).eval(), PDSG(), torch.rand(2, 4))).all())


class TestASSG:
    @pytest.mark.parametrize(
        "wrong",
        [{"level": 0.0}, {"level": 0.5}, {"spread": -1.0}, {"momentum": 1.0}, {"momentum": -0.1}, {"corrected": 1}],
    )
    def test_a_parameter_out_of_range_is_named(self, wrong):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            ASSG(**wrong)

    def test_corrected_means_are_those_of_what_was_seen(self):
        """After one gradient they are that gradient's own, after many that of the weighted mean."""
        layer, chain = IF(), ASSG(momentum=0.9, corrected=True)
        traces = [layer.trace(torch.rand(3, 2, 4, dtype=torch.float64)) for _ in range(3)]
        state = chain.init(traces[0])
        for trace in traces:
            state = chain.update(state, trace)
        weights = torch.tensor([0.9**2, 0.9, 1.0], dtype=torch.float64)
        expected = sum(w * trace.distance for w, trace in zip(weights, traces, strict=True)) / weights.sum()
        mean, _, share = state
        assert torch.allclose(mean / share[..., None], expected)

    def test_the_start_value_is_beside_the_scale_of_the_neurons_and_the_corrected_one_is_not(self):
        def first(unit, chain):
            found = gradient_in(unit, chain)
            return found / found.norm()

        for chain, same in ((ASSG(), False), (ASSG(corrected=True), True)):
            assert torch.allclose(first(1.0, chain), first(0.05, chain), atol=0.05) is same

    def test_a_run_goes_through_the_classifier(self):
        network = nets.build().float()
        classifier = PyTorchSNNClassifier(network, nn.CrossEntropyLoss(), (2, 6, 6), 3, chain=ASSG())
        x, y = nets.image(0, 4).float().numpy(), np.array([0, 1, 2, 0])
        with classifier.chain.run() as run:
            first, second = classifier.loss_gradient(x, y), classifier.loss_gradient(x, y)
            run.only([2])
            third = classifier.loss_gradient(x[[2]], y[[2]])
        assert not np.allclose(first, second) and np.isfinite(third).all()
