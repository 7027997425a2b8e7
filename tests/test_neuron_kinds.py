"""What a spiking layer may be: each kind of neuron is what it says, in simulation, gradients and training."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from art_snn import IF, LIF, SpikingNetwork, models
from art_snn.chains import BPTR, CBA, HART, RGA, STBP, Rate
from art_snn.engine import layout
from art_snn.engine.claims import NotAsClaimed
from art_snn.identity import as_bytes, settings_of
from art_snn.neurons import Dynamics, NotGiven, SpikingLayer, Trace, simulate
from tests import networks as nets

EXACT = 1e-10
many = settings(max_examples=60, deadline=None, derandomize=True)
some = settings(max_examples=25, deadline=None, derandomize=True)

CHANNELS, SIZE = 4, 6  # neurons of shape (4, 6, 6)


def numbers(low: float, high: float, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


#: Each kind by what differs from Eqs. 1-4, for T time steps.
KINDS = {
    "strict": lambda T: {"strict": True},
    "no reset": lambda T: {"reset": "none", "decay": 0.7},
    "soft reset by more than the threshold": lambda T: {"reset": "soft", "reset_by": 1.0 / 0.9},
    "soft reset by less": lambda T: {"reset": "soft", "reset_by": numbers(0.3, 0.8, CHANNELS), "strict": True},
    "hard reset held constant": lambda T: {"detach_reset": True, "v_rest": -0.3},
    "soft reset held constant": lambda T: {"reset": "soft", "detach_reset": True},
    "v(0)": lambda T: {"v_init": 0.6, "v_rest": 0.2},
    "v(0) for each neuron": lambda T: {"v_init": numbers(-0.5, 0.9, CHANNELS, SIZE, SIZE), "reset": "soft"},
    "graded": lambda T: {"scale": 1.7},
    "graded by channel": lambda T: {"scale": numbers(-0.6, 1.5, CHANNELS), "reset": "soft"},
    "all by channel": lambda T: {
        "decay": numbers(0.3, 1.0, CHANNELS),
        "threshold": numbers(0.6, 1.4, CHANNELS),
        "v_rest": numbers(-0.4, 0.4, CHANNELS),
    },
    "all by neuron": lambda T: {
        "decay": numbers(0.3, 1.0, CHANNELS, SIZE, SIZE),
        "threshold": numbers(0.6, 1.4, CHANNELS, SIZE, 1),
        "reset": "soft",
    },
    "a tensor without dimensions": lambda T: {"decay": torch.tensor(0.8), "threshold": torch.tensor(0.9)},
    "threshold by step": lambda T: {"threshold": numbers(0.6, 1.4, T, 1, 1, 1)},
    "decay by step": lambda T: {"decay": numbers(0.3, 1.0, T, CHANNELS, 1, 1), "reset": "soft"},
    "reset by step": lambda T: {"reset": "soft", "reset_by": numbers(0.4, 1.2, T, 1, 1, 1)},
    "scale by step": lambda T: {"scale": numbers(0.5, 1.5, T, 1, 1, 1)},
}
#: What rounding leaves of a gradient that is zero, as that of a bias before batch norm.
NOTHING = 1e-14
names = st.sampled_from(sorted(KINDS))
by_step = {"RGA": {"threshold by step", "decay by step"}, "any": {"scale by step"}}


def body(neurons, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            *(nn.Conv2d(2, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), neurons()),
            *(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), neurons(), nn.Flatten(), nn.Linear(CHANNELS * SIZE**2, 3)),
        )
        with torch.no_grad():
            layers[0].weight.mul_(3.0)
            layers[1].bias.uniform_(-0.2, 1.2)
            layers[3].weight.mul_(4.0)
    return layers.double()


def network_of(neurons, time_steps: int = 4, seed: int = 0) -> SpikingNetwork:
    return SpikingNetwork(body(neurons, seed), time_steps).double().eval()


def kind(name: str, time_steps: int, seed: int = 0) -> SpikingNetwork:
    return network_of(lambda: LIF(**KINDS[name](time_steps)), time_steps, seed)


class Spike(torch.autograd.Function):
    """A spike as a function of u = m - θ, whose derivative is Eq. 15."""

    @staticmethod
    def forward(ctx, u, gamma, strict):
        ctx.save_for_backward(u)
        ctx.gamma = gamma
        return (u > 0 if strict else u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * (ctx.gamma - u.abs()).clamp(min=0) / ctx.gamma**2, None, None


class Loop(nn.Module):
    """The equations once more, as a plain loop over time that autograd differentiates; all is read off `of`."""

    def __init__(self, of: LIF, time_steps: int, gamma: float = 1.0) -> None:
        super().__init__()
        self.of, self.time_steps, self.gamma = of, time_steps, gamma

    def at(self, name, t):
        value = getattr(self.of, name)
        if not isinstance(value, torch.Tensor) or value.dim() in (0, 3):
            return value
        return value.view(-1, 1, 1) if value.dim() == 1 else value[t]

    def forward(self, x):
        currents = x.unflatten(0, (self.time_steps, -1))
        v, outputs = torch.zeros_like(currents[0]) + self.at("v_init", 0), []
        for t, current in enumerate(currents):
            m = self.at("decay", t) * v + current
            s = Spike.apply(m - self.at("threshold", t), self.gamma, self.of.strict)
            outputs.append(self.at("scale", t) * s)
            r = s.detach() if self.of.detach_reset else s
            by = self.at("threshold" if self.of.reset_by is None else "reset_by", t)
            v = {"hard": m - (m - self.at("v_rest", t)) * r, "soft": m - by * r, "none": m}[self.of.reset]
        return torch.cat(outputs)


def looped(network: SpikingNetwork, gamma: float = 1.0) -> nn.Sequential:
    """The body of a network, its neurons as loops; weights and settings are shared."""
    layers = [Loop(one, network.time_steps, gamma) if isinstance(one, SpikingLayer) else one for one in network.body]
    return nn.Sequential(*layers)


def loss_of(logits):
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 3)


def looped_logits(network, x, gamma=1.0):
    out = looped(network, gamma)(x.repeat(network.time_steps, 1, 1, 1))
    return out.unflatten(0, (network.time_steps, -1)).mean(0)


class TestEachKind:
    @many
    @given(names, st.integers(1, 5), nets.seeds, nets.gammas)
    def test_stbp_equals_plain_autograd_through_the_loop(self, name, time_steps, seed, gamma):
        network, x = kind(name, time_steps, seed), nets.image(seed)
        got, leaf = nets.gradient(network, x, STBP(gamma)), x.clone().requires_grad_()
        logits = looped_logits(network, leaf, gamma)
        loss_of(logits).backward()
        assert nets.relative(got, leaf.grad) < EXACT
        with torch.no_grad():
            assert nets.relative(network(x), logits) < EXACT

    @pytest.mark.parametrize("name", KINDS)
    def test_it_differs_from_equations_1_to_4_and_fires(self, name):
        plain, network, x = network_of(LIF), kind(name, 4), nets.image(1)
        differ = any(
            nets.relative(nets.gradient(network, x, chain), nets.gradient(plain, x, chain)) > 1e-3
            for chain in (STBP(), HART())
        )
        assert differ or name == "strict"  # which shows only where a potential is exactly the threshold
        spikes = network.body[2].simulate(network.body[:2](x).expand(4, *[-1] * 4))
        assert 0.0 < float(spikes.mean()) < 1.0

    @many
    @given(names, st.integers(1, 5), nets.seeds, nets.chains_with_gain)
    def test_collapsed_equals_step_by_step(self, name, time_steps, seed, chain):
        network, x = kind(name, time_steps, seed), nets.image(seed)
        got = nets.gradient(network, x, chain)
        none = by_step["any"] | by_step.get(type(chain).__name__, set())
        assert network.route.name == ("step-by-step" if name in none and time_steps > 1 else "collapsed")
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < EXACT

    @some
    @given(names, nets.seeds, nets.gammas)
    def test_at_one_step_hart_equals_stbp(self, name, seed, gamma):
        network, x = kind(name, 1, seed), nets.image(seed)
        assert nets.relative(nets.gradient(network, x, HART(gamma)), nets.gradient(network, x, STBP(gamma))) < EXACT

    @some
    @given(names, nets.seeds, st.one_of(nets.chains, st.just(CBA())))
    def test_parts_of_the_batch_change_nothing(self, name, seed, chain):
        network, x = kind(name, 4, seed), nets.image(seed, batch=5)
        if chain == CBA() and name in ("threshold by step", "scale by step"):
            return
        whole, before = nets.gradient(network, x, chain), layout.BLOCK
        alone = torch.cat([nets.gradient(network, one, chain) / len(x) for one in x.split(1)])
        weights = [loss_of(torch.zeros(1, 3))] and torch.arange(len(x)) % 3  # a sample alone has label 0
        same = weights == 0
        assert nets.relative(alone[same], whole[same]) < EXACT
        layout.BLOCK, network.memory_bound = 1, 1
        try:
            assert nets.relative(nets.gradient(network, x, chain), whole) < EXACT
        finally:
            layout.BLOCK = before

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_single_steps_are_the_simulation_bit_for_bit(self, name, dtype):
        layer, currents = LIF(**KINDS[name](6)).to(dtype), (3 * numbers(-0.3, 1, 6, 2, CHANNELS, SIZE, SIZE)).to(dtype)
        state, spikes = layer.begin(currents[0]), []
        for current in currents:
            s, state = layer.step(current, state)
            spikes.append(s)
        assert torch.equal(torch.stack(spikes), layer.simulate(currents))
        assert 0 < float(torch.stack(spikes).mean()) < 1


def test_a_network_without_a_dimension_of_channels_may_set_its_neurons_too():
    neurons, x = numbers(0.3, 0.9, 5), nets.image(1, batch=32)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), LIF(neurons, 0.3), nn.Linear(5, 3)).double()
    network = SpikingNetwork(layers, 4).double().eval()
    for chain in (HART(), STBP(), RGA(), CBA()):
        got = nets.gradient(network, x, chain)
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < EXACT and got.abs().max() > 0


def test_a_soft_reset_by_threshold_over_decay_is_a_subtraction_one_step_later():
    """As snnTorch subtracts: the threshold, at the next step, and after a strict comparison."""
    beta, threshold, currents = 0.8, 0.7, numbers(-0.4, 1.6, 50, 3, 4, 5, 5)
    membrane, spike, expected = 0.0, 0.0, []
    for current in currents:
        membrane = beta * membrane + current - threshold * spike
        spike = (membrane > threshold).double()
        expected.append(spike)
    trace = LIF(beta, threshold, "soft", strict=True, reset_by=threshold / beta).trace(currents)
    assert torch.equal(trace.spikes, torch.stack(expected)) and 0 < float(trace.rate.mean()) < 1
    assert torch.allclose(trace.potentials[-1], membrane, atol=1e-12)


def test_a_strict_neuron_does_not_fire_at_its_threshold():
    for strict in (False, True):
        spikes = simulate(torch.ones(1, 1, 1), decay=1.0, threshold=1.0, reset="hard", v_rest=0.0, strict=strict)
        assert float(spikes) == float(not strict)
        layer = LIF(strict=strict)
        assert float(layer.simulate(torch.ones(1, 1, 1))) == float(not strict)
        dynamics = Plain()
        dynamics.strict = strict
        assert float(dynamics.simulate(torch.ones(1, 1, 1))) == float(not strict)


class Plain(Dynamics):
    """Eqs. 1-4 as equations of one's own."""

    threshold = 1.0

    def charge(self, v, current):
        return 0.9 * v + current

    def settle(self, m, spike):
        return m * (1 - spike)


class Learned(Dynamics):
    """All of it learned."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(numbers(-0.5, 2.0, CHANNELS, 1, 1))
        self.threshold = nn.Parameter(numbers(0.6, 1.2, CHANNELS))
        self.v_init = nn.Parameter(torch.tensor(0.3))
        self.amount = nn.Parameter(torch.tensor(0.8))
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.unused = nn.Parameter(torch.tensor(1.0))

    def charge(self, v, current):
        return torch.sigmoid(self.w) * v - 0.1 * v.square() + current

    def settle(self, m, spike):
        return m - self.amount * spike


class LearnedLoop(nn.Module):
    def __init__(self, of, time_steps):
        super().__init__()
        self.of, self.time_steps = of, time_steps

    def forward(self, x):
        of, outputs = self.of, []
        currents = x.unflatten(0, (self.time_steps, -1))
        v = torch.zeros_like(currents[0]) + of.v_init
        for current in currents:
            m = torch.sigmoid(of.w) * v - 0.1 * v.square() + current
            s = Spike.apply(m - of.threshold.view(-1, 1, 1), 1.0, False)
            v = m - of.amount * s
            outputs.append(of.scale * s)
        return torch.cat(outputs)


class PLIF(LIF):
    """λ = sigmoid(w), learned."""

    def __init__(self, w: float = 1.0, **others) -> None:
        super().__init__(**others)
        self.w = nn.Parameter(torch.full((), w))

    @property
    def decay(self):
        return torch.sigmoid(self.w)


def parameter(low, high, *shape):
    return nn.Parameter(numbers(low, high, *shape))


LEARNED = {
    "decay by channel": lambda: LIF(parameter(0.3, 0.9, CHANNELS)),
    "threshold": lambda: LIF(threshold=parameter(0.6, 1.2)),
    "threshold, soft": lambda: LIF(threshold=parameter(0.6, 1.2, CHANNELS), reset="soft"),
    "threshold, soft, detached": lambda: LIF(threshold=parameter(0.6, 1.2), reset="soft", detach_reset=True),
    "threshold, soft by another": lambda: LIF(threshold=parameter(0.6, 1.2), reset="soft", reset_by=0.5),
    "reset_by": lambda: LIF(reset="soft", reset_by=parameter(0.4, 1.2, CHANNELS)),
    "v_rest": lambda: LIF(v_rest=parameter(-0.3, 0.3, CHANNELS)),
    "v_rest, detached": lambda: LIF(v_rest=parameter(-0.3, 0.3), detach_reset=True),
    "v_init": lambda: LIF(v_init=parameter(-0.3, 0.9, CHANNELS, SIZE, SIZE)),
    "scale": lambda: LIF(scale=parameter(0.5, 1.5, CHANNELS)),
    "PLIF": PLIF,
    "PLIF, soft, strict": lambda: PLIF(0.5, reset="soft", strict=True),
    "decay by step": lambda: LIF(parameter(0.3, 0.9, 4, 1, 1, 1)),
    "no reset": lambda: LIF(parameter(0.3, 0.7), parameter(0.9, 1.3), "none"),
    "everything": lambda: LIF(
        parameter(0.3, 0.9, CHANNELS, SIZE, SIZE),
        parameter(0.6, 1.2, 4, CHANNELS, 1, 1),
        "soft",
        reset_by=parameter(0.4, 1.2, CHANNELS),
        v_init=parameter(-0.3, 0.5),
        scale=parameter(0.5, 1.5, 4, 1, 1, 1),
    ),
}


def training_gradients(logits, network):
    return torch.autograd.grad(loss_of(logits), list(network.parameters()), allow_unused=True)


class TestLearning:
    @pytest.mark.parametrize("name", LEARNED)
    @pytest.mark.parametrize("block", [1, 1 << 18])
    def test_stbp_trains_what_neurons_are_set_by(self, name, block, monkeypatch):
        monkeypatch.setattr(layout, "BLOCK", block)
        network, x = network_of(LEARNED[name]).train(), nets.image(1, batch=6)
        got = training_gradients(network(x), network)
        expected = training_gradients(looped_logits(network, x), network)
        for (path, _), one, other in zip(network.named_parameters(), got, expected, strict=True):
            assert float((one - other).norm()) <= 1e-9 * float(other.norm()) + NOTHING and other.abs().max() > 0, path

    @pytest.mark.parametrize("block", [1, 1 << 18])
    def test_it_trains_dynamics_of_ones_own(self, block, monkeypatch):
        monkeypatch.setattr(layout, "BLOCK", block)
        network, x = network_of(Learned).train(), nets.image(1, batch=6)
        got = training_gradients(network(x), network)
        layers = [LearnedLoop(one, 4) if isinstance(one, SpikingLayer) else one for one in network.body]
        out = nn.Sequential(*layers)(x.repeat(4, 1, 1, 1)).unflatten(0, (4, -1)).mean(0)
        expected = training_gradients(out, network)
        for (path, _), one, other in zip(network.named_parameters(), got, expected, strict=True):
            if path.endswith("unused"):
                assert one is None and other is None
            else:
                assert float((one - other).norm()) <= 1e-9 * float(other.norm()) + NOTHING and other.abs().max() > 0, (
                    path
                )

    @pytest.mark.parametrize("neurons", [LEARNED["everything"], PLIF, Learned])
    def test_in_parts_of_a_body_that_are_checkpointed_too(self, neurons):
        class Checkpointed(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return checkpoint(self.inner, x, use_reentrant=False)

        plain, network, x = network_of(neurons), network_of(neurons), nets.image(1)
        layers = list(network.body)
        network.body = nn.Sequential(layers[0], Checkpointed(nn.Sequential(*layers[1:5])), *layers[5:])
        for one in (plain, network):
            loss_of(one.train()(x)).backward()
        for one, other in zip(network.parameters(), plain.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                assert float((one.grad - other.grad).norm()) <= EXACT * float(other.grad.norm()) + NOTHING

    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("chain", [STBP(), HART(), CBA()], ids=repr)
    def test_an_attack_does_not_touch_it(self, chain, train):
        network, x = network_of(LEARNED["everything" if chain == STBP() else "PLIF"]).train(train), nets.image(1)
        network.chain = chain
        with network.attacked():
            loss_of(network(x.requires_grad_())).backward()
        assert x.grad.abs().max() > 0
        assert all(one.grad is None and one.requires_grad for one in network.parameters())

    @pytest.mark.parametrize("route", ["auto", "step-by-step"])
    def test_other_chains_leave_it_and_say_so_once(self, route, caplog):
        network, x = network_of(lambda: PLIF(scale=parameter(0.5, 1.5))), nets.image(1)
        network.training_chain, network.gradient_route = HART(), route
        for _ in range(3):
            loss_of(network(x)).backward()
        for path, one in network.named_parameters():
            of_neurons = path.startswith(("body.2.", "body.4."))
            assert (one.grad is None) == of_neurons, path
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert len(said) == 2 and all("scale, w of PLIF: HART does not train" in one for one in said)

    def test_a_layer_that_does_not_give_the_derivative_by_it_is_named(self, caplog):
        class Bare(SpikingLayer):
            threshold = 1.0

            def __init__(self):
                super().__init__()
                self.inner, self.gain = LIF(), nn.Parameter(torch.tensor(0.5))

            def simulate(self, currents, *, spikes=None):
                return self.inner.simulate(currents, spikes=spikes)

            def trace(self, currents, *, spikes=None):
                found = self.inner.trace(currents, spikes=spikes)
                return Trace(found.currents, found.potentials, found.spikes, self)

            def derivative(self, grad_spikes, slopes, trace):
                return self.inner.derivative(grad_spikes, slopes, trace)

        network = network_of(Bare).train()
        loss_of(network(nets.image(1))).backward()
        assert "gain of Bare: STBP does not train" in caplog.text and network.body[2].gain.grad is None

    def test_nothing_is_said_where_there_is_nothing_to_learn(self, caplog):
        network = network_of(LIF).train()
        for chain in (STBP(), HART()):
            network.training_chain = chain
            loss_of(network(nets.image(1))).backward()
        assert not caplog.text


class TestTimeSteps:
    @pytest.mark.parametrize(("name", "chain"), [("decay by step", RGA()), ("threshold by step", RGA())])
    def test_where_there_is_no_gain_the_definition_is_followed(self, name, chain, caplog):
        network, x = kind(name, 4), nets.image(1)
        got = nets.gradient(network, x, chain)
        what = name.split()[0]
        assert network.route.name == "step-by-step"
        assert f"RGA has no time-independent gain here: the {what} of LIF changes" in network.route.reason
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < EXACT
        with pytest.raises(ValueError, match=f"cannot be taken: RGA has no .* the {what} of LIF changes"):
            nets.gradient(network, x, chain, "collapsed")
        nets.gradient(network, x, HART())
        assert network.route.name == "collapsed"

    def test_rga_follows_the_decay_step_by_step(self):
        decay, currents = numbers(0.2, 0.9, 4, 1), numbers(-0.2, 2.2, 4, 3, 7)
        trace, grad = LIF(decay, 1.0).trace(currents), torch.ones(4, 3, 7, dtype=torch.float64)
        got = RGA().backward(grad, trace)
        for t in range(4):
            constant = LIF(float(decay[t]), 1.0).trace(currents)
            assert torch.allclose(got[t], RGA().backward(grad, constant)[t], atol=1e-12)

    @pytest.mark.parametrize("chain", [HART(), BPTR(), Rate(), RGA()], ids=repr)
    def test_a_scale_that_changes_with_the_step_has_no_gain(self, chain):
        network, x = kind("scale by step", 4), nets.image(1)
        nets.gradient(network, x, chain)
        assert network.route.name == "step-by-step" and "scales its spikes otherwise" in network.route.reason

    def test_training_by_a_chain_without_a_gain_here_goes_step_by_step(self):
        network, x = kind("decay by step", 4), nets.image(1)
        network.training_chain = RGA()
        got = training_gradients(network(x), network)
        network.gradient_route = "step-by-step"
        for one, other in zip(got, training_gradients(network(x), network), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("name", ["threshold by step", "scale by step"])
    def test_cba_has_no_time_steps_and_refuses(self, name):
        with pytest.raises(NotGiven, match=f"CBA cannot cross .*{name.split()[0]} of LIF changes with the time step"):
            nets.gradient(kind(name, 4), nets.image(1), CBA())


@pytest.mark.parametrize("chain", [HART(), STBP(), RGA(), BPTR(), Rate(), CBA()], ids=repr)
@pytest.mark.parametrize("route", ["auto", "step-by-step"])
def test_graded_spikes_are_weights_of_the_layer_above(chain, route):
    graded, plain, x = network_of(lambda: LIF(scale=-1.5)), network_of(LIF), nets.image(1)
    with torch.no_grad():
        plain.body[3].weight.mul_(-1.5)
        plain.body[6].weight.mul_(-1.5)
    got, expected = (nets.gradient(network, x, chain, route) for network in (graded, plain))
    assert nets.relative(got, expected) < EXACT and expected.abs().max() > 0
    with torch.no_grad():
        assert nets.relative(graded(x), plain(x)) < EXACT


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"decay": torch.full((6,), 0.5)}, r"decay of LIF is a tensor of shape \(6,\), .* \(4,\) for each channel"),
            ({"decay": torch.full((4, 6), 0.5)}, r"decay of LIF is a tensor of shape \(4, 6\), .* \(4, 6, 6\)"),
            ({"threshold": torch.ones(3, 1, 1, 1)}, r"threshold of LIF .* \(4, 4, 6, 6\) for each time step"),
            ({"scale": torch.ones(4, 6, 5)}, r"scale of LIF is a tensor of shape \(4, 6, 5\)"),
            ({"reset": "soft", "reset_by": torch.ones(7)}, r"reset_by of LIF is a tensor of shape \(7,\)"),
            ({"v_rest": torch.zeros(7)}, r"v_rest of LIF is a tensor of shape \(7,\)"),
            (
                {"v_init": torch.zeros(4, 4, 6, 6)},
                r"v_init of LIF is a tensor of shape \(4, 4, 6, 6\), .* each neuron \(",
            ),
        ],
    )
    def test_a_tensor_that_does_not_fit_is_named(self, settings, message):
        network = network_of(lambda: LIF(**settings))
        with pytest.raises(ValueError, match=message), torch.no_grad():
            network(nets.image(1))

    def test_one_for_the_channels_is_never_taken_for_the_width(self):
        values = numbers(0.3, 0.9, 4)
        got = LIF(values).trace(numbers(0, 1, 3, 2, 4, 4, 4)).potentials
        for channel, value in enumerate(values):
            alone = LIF(float(value)).trace(numbers(0, 1, 3, 2, 4, 4, 4)).potentials
            assert torch.allclose(got[:, :, channel], alone[:, :, channel], atol=1e-12)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"decay": torch.tensor([0.5, 1.5])}, "decay must be in"),
            ({"decay": nn.Parameter(torch.tensor(0.0))}, "decay must be in"),
            ({"threshold": torch.tensor([1.0, 0.0])}, "threshold must be > 0"),
            ({"threshold": torch.tensor(torch.nan)}, "threshold must hold finite numbers"),
            ({"decay": torch.tensor(0.5).requires_grad_()}, r"decay must be a torch\.nn\.Parameter to be learned"),
            ({"strict": 1}, "strict must be True or False"),
            ({"detach_reset": None}, "detach_reset must be True or False"),
            ({"reset": "half"}, "reset must be one of"),
            ({"reset_by": 0.5}, "reset_by belongs to the soft reset"),
            ({"reset": "none", "v_rest": 0.1}, "v_rest belongs to the hard reset"),
            ({"reset": "soft", "v_rest": torch.zeros(4)}, "v_rest belongs to the hard reset"),
            ({"scale": torch.inf}, "scale must be a finite number"),
            ({"v_init": "rest"}, "v_init must be a finite number, a tensor or"),
        ],
    )
    def test_what_cannot_be_is_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            LIF(**settings)

    def test_tensors_are_buffers_and_parameters_are_learned(self):
        layer = IF(torch.ones(4), v_init=nn.Parameter(torch.zeros(())), strict=True)
        assert dict(layer.named_buffers()).keys() == {"threshold"} and layer.decay == 1.0
        assert dict(layer.named_parameters()).keys() == {"v_init"}
        assert not LIF().state_dict()
        assert layer.double().threshold.dtype == torch.float64

    def test_what_differs_is_shown(self):
        assert LIF().extra_repr() == "decay=0.9, threshold=1.0, reset='hard', v_rest=0.0"
        layer = LIF(torch.full((4,), 0.5), reset="soft", reset_by=0.5, strict=True, scale=nn.Parameter(torch.ones(())))
        assert layer.extra_repr() == (
            "decay=Tensor(4,), threshold=1.0, reset='soft', v_rest=0.0, strict=True, reset_by=0.5, scale=Parameter()"
        )

    @pytest.mark.parametrize("name", sorted(KINDS))
    def test_a_network_file_and_an_audit_see_it(self, name, tmp_path):
        network = models.small_cnn(input_shape=(1, 16, 16), time_steps=4)
        with torch.no_grad():
            network(torch.rand(1, 1, 16, 16))
        before = list(settings_of(network))
        place = next(path for path, module in network.body.named_modules() if isinstance(module, LIF))
        parent, _, child = place.rpartition(".")
        setattr(network.body.get_submodule(parent), child, LIF(**KINDS[name](4)))
        with pytest.raises(ValueError, match="changed after it was built"):
            models.save_network(network, tmp_path / "net")
        after = list(settings_of(network))
        assert [as_bytes(part) for part in before] != [as_bytes(part) for part in after]


class Scaled(Plain):
    def charge(self, v, current):
        return 0.9 * v + 0.5 * current


class TestClaims:
    @pytest.mark.parametrize("route", ["auto", "step-by-step"])
    @pytest.mark.parametrize("chain", [HART(), RGA(), BPTR(), Rate(), CBA()], ids=lambda chain: type(chain).__name__)
    def test_a_current_that_is_scaled_inside_is_refused_by_chains_that_would_not_know(self, chain, route):
        Scaled.decay = 0.9
        with pytest.raises(
            NotGiven,
            match=rf"{type(chain).__name__} cannot cross .*(Scaled adds 0\.5 times its current|\+ x\(t\))",
        ):
            nets.gradient(network_of(Scaled), nets.image(1), chain, route)

    def test_stbp_knows(self):
        inside, outside, x = network_of(Scaled), network_of(Plain), nets.image(1)
        with torch.no_grad():
            for place in (0, 3):
                outside.body[place].weight.mul_(0.5 if place else 1.0)
                outside.body[place].bias.mul_(0.5 if place else 1.0)
            outside.body[1].weight.mul_(0.5)
            outside.body[1].bias.mul_(0.5)
        got, expected = nets.gradient(inside, x, STBP()), nets.gradient(outside, x, STBP())
        assert nets.relative(got, expected) < EXACT and expected.abs().max() > 0

    def refused(self, neurons, message, chain, **settings):
        with pytest.raises(NotAsClaimed, match=message):
            nets.gradient(network_of(lambda: neurons(**settings)), nets.image(1), chain)

    @pytest.mark.parametrize("chain", [HART(), STBP()], ids=repr)
    @pytest.mark.parametrize("strict", [False, True])
    def test_whether_it_fires_at_the_threshold(self, chain, strict):
        class Lies(LIF):
            def simulate(self, currents, *, spikes=None, potentials=None):
                self.strict = not strict
                found = super().simulate(currents, spikes=spikes, potentials=potentials)
                self.strict = strict
                return found

        self.refused(Lies, f"Lies says strict={strict}", chain, strict=strict)

    @pytest.mark.parametrize("chain", [HART(), STBP()], ids=repr)
    def test_where_it_begins(self, chain):
        class Lies(LIF):
            def simulate(self, currents, *, spikes=None, potentials=None):
                with torch.no_grad():
                    self.v_init = 0.0
                    found = super().simulate(currents, spikes=spikes, potentials=potentials)
                    self.v_init = 0.5
                return found

        self.refused(Lies, "Lies does not begin at its v_init", chain, v_init=0.5)

    def test_that_the_reset_is_held_constant(self):
        class Lies(LIF):
            def derivative(self, grad_spikes, slopes, trace):
                return LIF().derivative(grad_spikes, slopes, trace)

        self.refused(Lies, "Lies says detach_reset=True", STBP(), detach_reset=True)

    @pytest.mark.parametrize("reset", ["soft", "hard"])
    def test_what_the_reset_takes_off(self, reset):
        class Lies(LIF):
            def derivative(self, grad_spikes, slopes, trace):
                return LIF(reset=reset).derivative(grad_spikes, slopes, trace)

        self.refused(Lies, r"Lies\.derivative is not that of the potentials", STBP(), reset="soft", reset_by=0.4)

    def test_a_decay_at_every_step(self):
        class Lies(LIF):
            @property
            def decay(self):
                value = torch.tensor([0.9, 0.9, 0.9, 0.4], dtype=torch.float64).view(4, 1, 1, 1)
                return value if self.says else 0.9

            def simulate(self, currents, **others):
                self.says = False
                found = super().simulate(currents, **others)
                self.says = True
                return found

            says = True

        network = network_of(Lies)
        self.refused(Lies, r"Lies\.derivative is not that of the potentials", STBP())
        with pytest.raises(NotGiven, match="Lies does not decay by its decay"):
            nets.gradient(network, nets.image(1), RGA())

    def test_that_a_spike_is_0_or_1(self):
        class Graded(LIF):
            def simulate(self, currents, **others):
                return 2.0 * super().simulate(currents, **others)

            def trace(self, currents, **others):
                found = super().trace(currents, **others)
                return Trace(found.currents, found.potentials, found.spikes, self)

        self.refused(Graded, "spikes other than 0 and 1: what a spike is worth is its scale", HART())
