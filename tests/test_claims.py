"""Nothing is believed unchecked: what neurons, chains, encoders and bodies say of themselves is compared."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from art_snn import LIF, SpikingNetwork
from art_snn.chains import BPTR, CBA, HART, RGA, STBP, BackwardChain, Mixed, Rate
from art_snn.encoders import Encoder
from art_snn.engine.claims import NotAsClaimed
from art_snn.neurons import Dynamics, NotGiven, SpikingLayer, Trace
from art_snn.surrogates import Triangle
from tests import networks as nets
from tests.networks import Call


class Quadratic(Dynamics):
    """Neurons with dynamics of their own: v ← 0.9 v - 0.4 v² + x, and a reset to 0."""

    threshold = 1.0

    def charge(self, v, current):
        return 0.9 * v - 0.4 * v.square() + current

    def settle(self, m, spike):
        return m * (1 - spike)


def body(neurons) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), neurons(), nn.Conv2d(4, 4, 3, padding=1), neurons()),
        *(nn.Flatten(), nn.Linear(144, 3)),
    )


def network_of(neurons, time_steps=4, **kwargs) -> SpikingNetwork:
    network = SpikingNetwork(body(neurons), time_steps, **kwargs).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)
    return network


class Unrolled(SpikingLayer):
    """Quadratic's equations once more, as a plain loop that autograd differentiates with Eq. 15 for a spike."""

    def __init__(self, gamma: float, time_steps: int) -> None:
        super().__init__()
        self.gamma, self.time_steps = gamma, time_steps

    def forward(self, x):
        v, spikes = 0.0, []
        for current in x.unflatten(0, (self.time_steps, -1)):
            m = 0.9 * v - 0.4 * v * v + current
            slope = Triangle(self.gamma).at((m.detach() - 1.0).abs())
            s = (m.detach() >= 1.0).to(m.dtype) + (m - m.detach()) * slope
            v = m - m * s
            spikes.append(s)
        return torch.cat(spikes)


class TestNeurons:
    @pytest.mark.parametrize("gamma", [0.6, 1.5])
    def test_dynamics_of_ones_own_are_differentiated_as_they_are(self, gamma):
        network, x = network_of(Quadratic), nets.image(1)
        got = nets.gradient(network, x, STBP(gamma))
        leaf = x.clone().requires_grad_()
        logits = body(lambda: Unrolled(gamma, 4)).double()
        logits.load_state_dict(network.body.state_dict())
        out = logits(leaf.repeat(4, 1, 1, 1)).unflatten(0, (4, -1)).mean(0)
        nn.functional.cross_entropy(out, torch.arange(len(x)) % 3).backward()
        assert nets.relative(got, leaf.grad) < 1e-10 and got.abs().max() > 0
        with torch.no_grad():
            assert nets.relative(network(x), out) < 1e-10

    @pytest.mark.parametrize("chain", [HART(0.7), BPTR(), Rate()], ids=repr)
    def test_dynamics_of_ones_own_collapse_like_any_other(self, chain):
        network, x = network_of(Quadratic), nets.image(1)
        got = nets.gradient(network, x, chain)
        assert network.route.name == "collapsed"
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < 1e-10

    @pytest.mark.parametrize("route", ["auto", "step-by-step"])
    def test_a_chain_that_needs_what_a_neuron_does_not_give_refuses_by_name(self, route):
        with pytest.raises(NotGiven, match=r"RGA cannot cross .*Quadratic has no attribute 'decay'"):
            nets.gradient(network_of(Quadratic), nets.image(1), RGA(), route)

        class Named(Quadratic):
            decay = 0.9

        with pytest.raises(NotGiven, match=r"RGA cannot cross .*Named does not decay"):
            nets.gradient(network_of(Named), nets.image(1), RGA(), route)

        class Bare(SpikingLayer):
            """Rectified, no dynamics: it says neither threshold nor derivative."""

            def simulate(self, currents, *, spikes=None):
                return (currents > 0.3).to(currents.dtype)

            def trace(self, currents, *, spikes=None):
                return Trace(currents, currents, self.simulate(currents), self)

        for chain, lacking in ((HART(), "threshold"), (CBA(), "threshold"), (STBP(), "threshold")):
            with pytest.raises(NotGiven, match=rf"{type(chain).__name__} cannot cross .*Bare has no .*{lacking}"):
                nets.gradient(network_of(Bare), nets.image(1), chain, route)
        Bare.threshold = 0.3
        with pytest.raises(NotGiven, match=r"STBP cannot cross .*Bare does not give the derivative"):
            nets.gradient(network_of(Bare), nets.image(1), STBP(), route)

    def test_a_neuron_may_return_its_spikes_or_write_them(self):
        class Returns(LIF):
            def simulate(self, currents, *, spikes=None, potentials=None):
                return super().simulate(currents, potentials=potentials)

        mine, plain, x = network_of(Returns), network_of(LIF), nets.image(1)
        with torch.no_grad():
            assert torch.equal(mine(x), plain(x))
        for chain in (HART(), STBP()):
            assert torch.equal(nets.gradient(mine, x, chain), nets.gradient(plain, x, chain))

    def test_a_derivative_that_is_not_the_dynamics_is_refused(self):
        class Bent(LIF):
            """LIF's trace and derivative, over other dynamics."""

            def simulate(self, currents, *, spikes=None, potentials=None):
                found = Quadratic().trace(currents)
                if potentials is not None:
                    potentials.copy_(found.potentials)
                return found.spikes

        with pytest.raises(NotAsClaimed, match=r"Bent\.derivative is not that of the potentials"):
            nets.gradient(network_of(Bent), nets.image(1), STBP())
        for chain in (HART(), BPTR()):  # which need no derivative
            assert nets.gradient(network_of(Bent), nets.image(1), chain).abs().max() > 0

    @pytest.mark.parametrize("neurons", [LIF, Quadratic, lambda: LIF(0.5, 0.8, "soft"), lambda: LIF(1.0, v_rest=-0.3)])
    @pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, 1e30])
    def test_a_derivative_that_is_the_dynamics_passes(self, neurons, size):
        for seed in range(5):
            nets.gradient(network_of(neurons), 2 * size * nets.image(seed), STBP())

    @pytest.mark.parametrize("reset", ["soft", "hard"])
    @pytest.mark.parametrize("time_steps", [2, 4, 5])
    def test_a_derivative_of_another_reset_is_refused(self, reset, time_steps):
        class Half(LIF):
            """LIF but for its reset, which takes off 0.3; and LIF's derivative."""

            def simulate(self, currents, *, spikes=None, potentials=None):
                v, spikes = torch.zeros_like(currents[0]), torch.empty_like(currents)
                for t, current in enumerate(currents):
                    m = self.decay * v + current
                    if potentials is not None:
                        potentials[t] = m
                    spikes[t] = m >= self.threshold
                    v = m - 0.3 * spikes[t]
                return spikes

        with pytest.raises(NotAsClaimed, match=r"Half\.derivative is not that of the potentials"):
            nets.gradient(network_of(lambda: Half(0.9, 1.0, reset), time_steps), nets.image(1), STBP())

    def test_a_derivative_may_hold_the_reset_constant(self):
        class Detached(LIF):
            def derivative(self, grad_spikes, slopes, trace):
                G = grad_spikes * slopes
                for t in range(len(G) - 2, -1, -1):
                    G[t] += self.decay * G[t + 1] * (1 - trace.spikes[t])
                return G

        assert nets.gradient(network_of(Detached), nets.image(1), STBP()).abs().max() > 0

    def test_potentials_are_those_before_the_spike(self):
        class After(LIF):
            def trace(self, currents, *, spikes=None):
                found = super().trace(currents, spikes=spikes)
                return Trace(found.currents, found.potentials * (1 - found.spikes), found.spikes, self)

        for chain in (HART(), STBP()):
            with pytest.raises(NotAsClaimed, match=r"After\.trace gives spikes where its potentials are below"):
                nets.gradient(network_of(After), nets.image(1), chain)

    def test_dynamics_may_work_in_place(self):
        class InPlace(Quadratic):
            def charge(self, v, current):
                return v.mul_(0.9).add_(current)

            def settle(self, m, spike):
                return m.sub_(spike)

        class Plain(Quadratic):
            def charge(self, v, current):
                return 0.9 * v + current

            def settle(self, m, spike):
                return m - spike

        x = nets.image(1)
        for chain in (HART(), STBP()):
            in_place, plain = (nets.gradient(network_of(kind), x, chain) for kind in (InPlace, Plain))
            assert nets.relative(in_place, plain) < 1e-12

    @pytest.mark.parametrize("size", [1.0, 255.0])
    def test_the_packages_own_neurons_pass_in_float32_over_many_steps(self, size):
        network = network_of(lambda: LIF(1.0), 256).float()
        nets.gradient(network, size * nets.image(1).float(), STBP())

    def test_a_neuron_with_a_kink_or_a_state_in_float32_passes(self):
        class Kink(Dynamics):
            threshold = 1.0

            def charge(self, v, current):
                return torch.relu(0.9 * v + current)

            def settle(self, m, spike):
                return m * (1 - spike)

        class Kernel(Quadratic):
            def __init__(self):
                super().__init__()
                self.register_buffer("kernel", torch.full((4, 1, 1, 1), 0.9))

            def charge(self, v, current):
                return nn.functional.conv2d(v, self.kernel, groups=4) + current

        for neurons in (Kink, Kernel):
            network = network_of(neurons).float()
            for x in (nets.image(1).float(), torch.zeros(3, 2, 6, 6)):
                nets.gradient(network, x, STBP())

    def test_a_derivative_that_nobody_asks_for_is_not_looked_at(self):
        class Bent(LIF):
            def derivative(self, grad_spikes, slopes, trace):
                raise AssertionError

        nets.gradient(network_of(Bent), nets.image(1), HART(), "step-by-step")

    def test_a_trace_that_is_not_the_simulation_is_refused(self):
        class Late(LIF):
            def trace(self, currents, *, spikes=None):
                found = super().trace(currents, spikes=spikes)
                return Trace(found.currents, found.potentials, found.spikes.roll(1, 0), self)

        for chain in (HART(), STBP()):
            with pytest.raises(NotAsClaimed, match=r"Late\.simulate and Late\.trace give different spikes"):
                nets.gradient(network_of(Late), nets.image(1), chain)

    def test_spikes_of_another_shape_are_named(self):
        class Fewer(LIF):
            def simulate(self, currents, *, spikes=None, potentials=None):
                return super().simulate(currents, potentials=potentials)[:1]

        with pytest.raises(ValueError, match=r"Fewer gives spikes of shape \(1, "), torch.no_grad():
            network_of(Fewer)(nets.image(1))


class Loud(BackwardChain):
    """A chain whose gain is not the factor of its definition."""

    def backward(self, grad_spikes, trace):
        return grad_spikes * trace.rate

    def gain(self, trace):
        return 1.46 * trace.rate


class ChangesOverTime(Loud):
    """A chain whose factor is another at every step, with the mean of them as its gain."""

    def backward(self, grad_spikes, trace):
        return grad_spikes * trace.spikes

    def gain(self, trace):
        return trace.rate


class TestChains:
    @pytest.mark.parametrize("chain", [Loud(), ChangesOverTime()], ids=["another", "changes"])
    def test_a_gain_that_is_not_the_definitions_is_not_used(self, chain, caplog):
        network, x = nets.build(), nets.image(1)
        got = nets.gradient(network, x, chain)
        assert network.route.name == "step-by-step" and "gain is not the factor of" in network.route.reason
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < 1e-10
        with pytest.raises(ValueError, match="cannot be taken"):
            nets.gradient(network, x, chain, "collapsed")
        nets.gradient(network, x, HART())
        assert network.route.name == "collapsed"

    def test_a_gain_of_one_chain_says_nothing_of_the_next(self):
        network, x = nets.build(), nets.image(1)
        for _ in range(3):  # the next gradient of that batch size is none at which numbers are compared
            nets.gradient(network, x, HART())
        nets.gradient(network, x, Loud())
        assert network.route.name == "step-by-step"

    def test_a_sample_that_shows_nothing_hides_nothing(self):
        """The first sample is blank, and so is the whole first batch: neither lets a gain through."""
        torch.manual_seed(0)
        layers = nn.Conv2d(2, 4, 3, padding=1, bias=False), LIF(), nn.Flatten(), nn.Linear(144, 3)
        network, x = SpikingNetwork(nn.Sequential(*layers), 4).double().eval(), 3 * nets.image(1)
        with torch.no_grad():
            layers[0].weight.mul_(3)
        nets.gradient(network, torch.zeros_like(x), Loud())
        nets.gradient(network, torch.zeros_like(x), Loud())
        x[0] = 0
        nets.gradient(network, x, Loud())
        assert network.route.name == "step-by-step" and "gain is not the factor" in network.route.reason

    def test_each_chain_is_compared_not_each_kind(self):
        @dataclass(frozen=True)
        class Factor(Loud):
            factor: float

            def backward(self, grad_spikes, trace):
                return grad_spikes * trace.rate

            def gain(self, trace):
                return self.factor * trace.rate

        network, x = nets.build(), nets.image(1)
        routes = []
        for factor in (1.0, 1.0, 1.0, 1.46):
            nets.gradient(network, x, Factor(factor))
            routes.append(network.route.name)
        assert routes == ["collapsed"] * 3 + ["step-by-step"]

    def test_a_chain_of_a_mixture_is_refused_alone(self):
        network, x = nets.build(), nets.image(1)
        nets.gradient(network, x, Mixed([HART(), Loud()]))
        assert network.route.name == "step-by-step"
        nets.gradient(network, x, HART())
        assert network.route.name == "collapsed"

    def test_it_is_not_used_in_training_either(self):
        network, x = nets.build(), nets.image(1)
        network.training_chain = Loud()
        network(x).sum().backward()
        first = next(network.parameters()).grad.clone()
        network.zero_grad()
        network.gradient_route = "step-by-step"
        network(x).sum().backward()
        assert torch.equal(first, next(network.parameters()).grad)


class Ramp(Encoder):
    """An image that grows with every step."""

    def forward(self, x, time_steps):
        factors = torch.linspace(0.0, 2.5, time_steps, dtype=x.dtype)
        return x * factors.view(-1, *[1] * x.dim())


class TestEncoders:
    @pytest.mark.parametrize("chain", [HART(0.8), RGA(), Mixed(), STBP()], ids=repr)
    def test_the_gradient_is_pulled_through_the_frames_themselves(self, chain):
        network, x = network_of(LIF, encoder=Ramp()), nets.image(2)
        got = nets.gradient(network, x, chain)
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < 1e-10

    def test_cba_takes_the_mean_of_the_frames(self):
        ramp, x = network_of(LIF, encoder=Ramp()), nets.image(2)
        plain = network_of(LIF)
        assert nets.relative(nets.gradient(ramp, x, CBA()), 1.25 * nets.gradient(plain, 1.25 * x, CBA())) < 1e-10

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (lambda x, t: x.detach().expand(t, *x.shape), "frames without a gradient"),
            (lambda x, t: x.expand(t + 1, *x.shape), r"must give frames \(4, 3, ...\), got \(5, 3, 2, 6, 6\)"),
            (lambda x, t: [x] * t, r"must give frames .* got list"),
        ],
    )
    def test_frames_that_are_none_are_named(self, frames, message):
        class Wrong(Encoder):
            def forward(self, x, time_steps):
                return frames(x, time_steps)

        with pytest.raises(ValueError, match=message):
            nets.gradient(network_of(LIF, encoder=Wrong()), nets.image(1), HART())


def hook_on_the_node(x):
    y = 1.5 * x
    if y.grad_fn is not None:
        y.grad_fn.register_prehook(lambda grads: tuple(0.25 * grad for grad in grads))
    return y


def numbers_in_storage(x):
    return x * (1.0 + 0.2 * float(x.detach().clone().storage()[5]))


def storage_of_itself(x):
    return x * (1.0 + 0.2 * x.storage()[5])


class TestBodies:
    @pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
    @pytest.mark.parametrize("hidden", [hook_on_the_node, numbers_in_storage, storage_of_itself])
    @pytest.mark.parametrize("before", [0, 2, 4])
    def test_what_goes_round_the_operations_is_seen_whenever_it_comes(self, hidden, before):
        part = Call(lambda x: 1.5 * x)
        network, x = nets.build(extra=part), nets.image(1)
        for _ in range(before):
            nets.gradient(network, x, HART())
            assert network.route.name == "collapsed"
        part.function = hidden
        got = nets.gradient(network, x, HART())
        assert network.route.name == "step-by-step"
        assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) == 0.0

    def test_numbers_are_compared_for_ever(self):
        """What no operation shows is found at the next power of two."""
        part = Call(lambda x: x)
        network, x = nets.build(extra=part), nets.image(1)
        for _ in range(5):
            nets.gradient(network, x, HART())
        part.function = lambda x: x * (0.5 + 2.0 / len(x))
        routes = []
        for _ in range(4):
            nets.gradient(network, x, HART())
            routes.append(network.route.name)
        assert routes == ["collapsed", "collapsed", "step-by-step", "step-by-step"]

    def test_a_loud_channel_does_not_drown_the_others(self):
        def other_in_large_batches(x):
            factors = torch.ones(4, dtype=x.dtype)
            if len(x) > 3:
                factors[1:] = 1.5
            return x * factors.view(1, -1, 1, 1)

        network, x = nets.build(extra=Call(other_in_large_batches)), nets.image(1)
        norm = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        with torch.no_grad():
            norm.bias[0] = 300.0
        got = nets.gradient(network, x, HART())
        assert network.route.reason.startswith("the current of spiking layer 2 is not its mean")
        assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) == 0.0

    @pytest.mark.parametrize("chain", [HART(1.0), HART(20.0)], ids=repr)
    def test_an_output_that_hardly_changes_is_no_reason_to_refuse(self, chain):
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 8, 3, padding=1), LIF()]
        for _ in range(8):
            layers += [nn.Conv2d(8, 8, 3, padding=1), LIF()]
        network = SpikingNetwork(nn.Sequential(*layers, nn.Flatten(), nn.Linear(288, 10)), 4).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
            network.body[-1].bias.fill_(1e4)
        network.chain = chain
        network(nets.image(1).float().requires_grad_()).sum().backward()
        assert network.route.name == "collapsed", network.route.reason

    def test_division_that_rounds_is_not_affine(self):
        network = nets.build(extra=Call(lambda x: torch.div(x, 0.5, rounding_mode="floor")))
        nets.gradient(network, nets.image(1), HART())
        assert network.route.name == "step-by-step"

    def test_layers_without_a_shape_yet_get_one(self):
        network = SpikingNetwork(nn.Sequential(nn.Flatten(), nn.LazyLinear(8), LIF(), nn.Linear(8, 3)), 4).eval()
        with torch.no_grad():
            assert network(nets.image(1).float()).shape == (3, 3)

    def test_a_gradient_that_something_changes_is_seen_by_its_numbers(self, monkeypatch):
        from art_snn.engine import affine

        monkeypatch.setattr(affine, "ATTRIBUTES", affine.ATTRIBUTES | {"grad_fn"})
        network, x = nets.build(extra=Call(hook_on_the_node)), nets.image(1)
        nets.gradient(network, x, HART())
        assert network.route.reason.startswith("its backward pass is not that of its forward pass")

    def test_running_out_of_memory_is_no_property_of_a_body(self):
        for error in (
            torch.OutOfMemoryError("CUDA out of memory"),
            MemoryError(),
            RuntimeError("can't allocate memory"),
        ):
            failing = [error]

            def once(x, failing=failing):
                if failing and x.requires_grad:
                    raise failing.pop()
                return x

            network, x = nets.build(extra=Call(once)), nets.image(1)
            with pytest.raises(type(error)):
                nets.gradient(network, x, HART())
            nets.gradient(network, x, HART())
            assert network.route.name == "collapsed"

    def test_a_body_that_failed_at_batch_size_b_is_tried_again(self):
        failing = [RuntimeError("a device was away")]

        def once(x):
            if failing and x.requires_grad:
                raise failing.pop()
            return x

        network, x = nets.build(extra=Call(once)), nets.image(1)
        routes = []
        for _ in range(3):
            nets.gradient(network, x, HART())
            routes.append(network.route.name)
        assert routes == ["step-by-step", "collapsed", "collapsed"]

    def test_one_that_returns_more_than_its_output_says_so(self):
        network = network_of(LIF)
        network.body.append(Call(lambda x: (x, x)))
        for chain in (HART(), CBA()):
            with pytest.raises(TypeError, match=r"one tensor .* got a tuple of Tensor, Tensor"):
                nets.gradient(network, nets.image(1), chain)
        with pytest.raises(TypeError, match="one tensor"), torch.no_grad():
            network(nets.image(1))


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class TestCheckpointing:
    def networks(self, reentrant):
        plain, checkpointed = network_of(LIF), network_of(LIF)
        layers = list(checkpointed.body)
        inner = Checkpointed(nn.Sequential(*layers[1:4]), reentrant)
        checkpointed.body = nn.Sequential(layers[0], inner, *layers[4:])
        return plain, checkpointed

    @pytest.mark.parametrize("chain", [HART(), STBP(), Mixed()], ids=repr)
    @pytest.mark.parametrize("bound", [1, 2 << 30])
    def test_inside_a_body_works(self, chain, bound):
        networks, x = self.networks(reentrant=False), nets.image(1)
        for network in networks:
            network.memory_bound = bound
        plain, checkpointed = (nets.gradient(network, x, chain) for network in networks)
        assert nets.relative(checkpointed, plain) < 1e-10
        assert networks[1].route.name == "step-by-step"

    @pytest.mark.parametrize("chain", [STBP(), HART()], ids=repr)
    def test_inside_a_body_works_in_training(self, chain):
        networks, x = self.networks(reentrant=False), nets.image(1)
        for network in networks:
            network.training_chain = chain
            network.train()(x).square().sum().backward()
        for one, other in zip(*(network.parameters() for network in networks), strict=True):
            assert nets.relative(other.grad, one.grad) < 1e-10

    @pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
    def test_the_reentrant_kind_is_refused_by_name(self):
        (_, network), x = self.networks(reentrant=True), nets.image(1)
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            nets.gradient(network, x, STBP())
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            network.train()(x).sum().backward()

    def test_every_forward_pass_goes_back_as_it_went(self):
        plain, network = self.networks(reentrant=False)
        batches = nets.image(1), nets.image(2, 2)
        for one in (plain, network):
            one.train()
            sum(one(x).square().sum() for x in batches).backward()
        for one, other in zip(plain.parameters(), network.parameters(), strict=True):
            assert nets.relative(other.grad, one.grad) < 1e-10
        logits = []
        for gamma in (0.5, 2.0):
            network.training_chain = STBP(gamma)
            logits.append(network(batches[0]).square().sum())
        with pytest.raises(RuntimeError, match="more than one forward pass waits"):
            sum(logits).backward()

    def test_a_layer_is_not_run_outside_for_that(self):
        network = network_of(LIF)
        nets.gradient(network, nets.image(1), STBP())
        with pytest.raises(RuntimeError, match="only inside a SpikingNetwork"):
            network.body(nets.image(1).repeat(4, 1, 1, 1))
