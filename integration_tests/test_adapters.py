"""Networks of other libraries: their forward pass bit for bit, and the gradients of an equivalent network of ours."""

from __future__ import annotations

import copy
import gc
import io
import logging
import pickle
import re
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from art_snn import IF, LIF, PoissonEncoder, PyTorchSNNClassifier, SpikingNetwork, adapt, datasets
from art_snn.adapters import Description
from art_snn.chains import (
    ASSG,
    BPTR,
    CBA,
    HART,
    PDSG,
    RGA,
    STBP,
    AdaptiveHART,
    AnnealedHART,
    Mixed,
    Native,
    OneStepHART,
    Rate,
)

T = 5
CHAINS = [HART(), STBP(), RGA(), BPTR(), Rate(), CBA(), Mixed()]
CHAINS += [AdaptiveHART(), AnnealedHART(), OneStepHART(), PDSG(), ASSG(), STBP(detach_reset=True)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(batch=5, scale=3.0):
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * scale


def layers():
    """A convolution and two linear layers, always the same."""
    torch.manual_seed(3)
    return nn.Conv2d(1, 6, 3, padding=1), nn.Linear(96, 40), nn.Linear(40, 10)


def plain(neuron, wrap=lambda layer: layer, body=nn.Sequential):
    conv, linear, readout = layers()
    flat = nn.Flatten()
    return body(wrap(conv), neuron(), wrap(nn.AvgPool2d(2)), wrap(flat), wrap(linear), neuron(), wrap(readout))


def ours(neuron):
    return SpikingNetwork(plain(neuron), T).eval()


def gradient(network, x, chain):
    network.chain = chain
    leaf = x.clone().requires_grad_()
    F.cross_entropy(network(leaf), torch.arange(len(x)) % 10).backward()
    return leaf.grad


def close(found, expected, tolerance=1e-5):
    return (found - expected).norm() <= tolerance * expected.norm()


def living():
    """How many tensors there are."""
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def agrees(adapted, expected, chains=CHAINS, collapsed=True, scale=3.0):
    """Predictions and gradients along all chains; those with a gain are collapsed, if they are to be."""
    x = images(scale=scale)
    adapted.eval()
    with torch.no_grad():
        assert torch.equal(adapted(x), expected(x))
    for chain in chains:
        assert close(gradient(adapted, x, chain), gradient(expected, x, chain)), chain
        if chain.has_gain and collapsed is not None:
            assert adapted.route.name == ("collapsed" if collapsed else "step-by-step"), adapted.route
    assert gradient(adapted, x, Native()).any() and adapted.route.name == "native"


class TestSpikingJelly:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    KINDS = {
        "IF": ("IFNode", {}, lambda: IF()),
        "soft IF": ("IFNode", {"v_reset": None}, lambda: IF(reset="soft")),
        "LIF": ("LIFNode", {"tau": 2.0, "decay_input": False}, lambda: LIF(0.5)),
        "soft LIF": ("LIFNode", {"tau": 4.0, "v_reset": None, "decay_input": False}, lambda: LIF(0.75, reset="soft")),
        "v_reset": ("IFNode", {"v_reset": -0.25, "v_threshold": 0.75}, lambda: IF(1.0)),
        "detached": ("IFNode", {"detach_reset": True}, lambda: IF(detach_reset=True)),
        "parametric": ("ParametricLIFNode", {"init_tau": 2.0, "decay_input": False}, lambda: LIF(0.5)),
    }

    def network(self, kind, mode, **kwargs):
        net = plain(lambda: getattr(self.neuron, kind)(step_mode=mode, **kwargs))
        if mode == "s":
            return net
        return nn.Sequential(*(one if hasattr(one, "step_mode") else self.layer.SeqToANNContainer(one) for one in net))

    @pytest.mark.parametrize("mode", ["s", "m"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_gradients_are_those_of_an_equivalent_network(self, kind, mode):
        name, kwargs, same = self.KINDS[kind]
        agrees(adapt(self.network(name, mode, **kwargs), T), ours(same))

    @pytest.mark.parametrize("mode", ["s", "m"])
    def test_inputs_that_decay_are_weighted(self, mode):
        """x / τ is a current: the weights before the neurons are divided by τ in the network of ours."""
        adapted = adapt(self.network("LIFNode", mode, tau=2.0, v_threshold=0.5), T)
        same = ours(lambda: LIF(0.5, 0.5))
        with torch.no_grad():
            for module in (same.body[0], same.body[4]):
                module.weight.div_(2.0)
                module.bias.div_(2.0)
        agrees(adapted, same)

    @pytest.mark.parametrize("mode", ["s", "m"])
    def test_predictions_are_its_own_bit_for_bit_and_nothing_is_left_behind(self, mode):
        net, x = self.network("LIFNode", mode, tau=2.0).eval(), images()

        def own(x):
            self.functional.reset_net(net)
            frames = x.expand(T, *x.shape)
            out = (net(frames) if mode == "m" else torch.stack([net(frame) for frame in frames])).mean(0)
            self.functional.reset_net(net)
            return out

        with torch.no_grad():
            expected, few = own(x), own(x[:2])
            network = adapt(net, T).eval()
            assert torch.equal(network(x), expected)
        gradient(network, x, "hart")
        gradient(network, x[:3], "stbp")
        with torch.no_grad():
            assert torch.equal(network(x[:2]), few) and torch.equal(network(x), expected)
            assert torch.equal(own(x), expected)
        assert net[1].v == 0.0 and "forward" not in vars(net[1])
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())

    def test_one_sample_is_collapsed_too(self):
        for mode in ("s", "m"):
            network = adapt(self.network("IFNode", mode), T).eval()
            whole = gradient(network, images(), "hart")
            leaf = images()[:1].requires_grad_()
            F.cross_entropy(network(leaf), torch.tensor([0]), reduction="sum").backward()
            assert network.route.name == "collapsed"
            assert close(leaf.grad, 5 * whole[:1])

    def test_containers(self):
        one = self.layer
        net = nn.Sequential(
            one.SeqToANNContainer(layers()[0], nn.BatchNorm2d(6)),
            one.MultiStepContainer(self.neuron.IFNode()),
            one.SeqToANNContainer(nn.AvgPool2d(2), nn.Flatten(), layers()[1]),
            self.neuron.IFNode(step_mode="m"),
            one.SeqToANNContainer(layers()[2]),
        )
        with pytest.raises(ValueError, match="call must be given"):
            adapt(net, T)
        conv, linear, readout = layers()
        same = SpikingNetwork(
            nn.Sequential(conv, nn.BatchNorm2d(6), IF(), nn.AvgPool2d(2), nn.Flatten(), linear, IF(), readout), T
        )
        # The container takes one time step after the other out of what it gets.
        agrees(adapt(net, T, call="sequence"), same.eval(), collapsed=False)

    @pytest.mark.parametrize("name", ["vgg", "sew", "resnet"])
    def test_its_models(self, name):
        from spikingjelly.activation_based.model import sew_resnet, spiking_resnet, spiking_vgg

        settings = {"spiking_neuron": self.neuron.IFNode, "detach_reset": True, "num_classes": 10}
        net = {
            "vgg": lambda: spiking_vgg.spiking_vgg11_bn(**settings),
            "sew": lambda: sew_resnet.sew_resnet18(cnf="ADD", **settings),
            "resnet": lambda: spiking_resnet.spiking_resnet18(**settings),
        }[name]()
        self.functional.set_step_mode(net, "m")
        x = torch.rand(3, 3, 32, 32)
        with torch.no_grad():  # batch norms of an untrained network let nothing fire
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 1.0
            net.train()(x.expand(2, *x.shape))
            self.functional.reset_net(net)
        network = adapt(net.eval(), 2).eval()
        for chain in (HART(3.0), STBP(3.0), RGA(), CBA()):
            assert gradient(network, x, chain).any(), chain
        # Max pooling is not affine: there the gradient is taken step by step.
        assert gradient(network, x, HART(3.0)).any() and "max_pool" in network.route.reason

    def test_a_spikformer_block(self):
        pytest.importorskip("spikingjelly.activation_based.model.spikformer")
        from spikingjelly.activation_based.model.spikformer import SpikformerBlock

        class Net(nn.Module):
            def __init__(self, neuron):
                super().__init__()
                self.embed = nn.Linear(8, 16)
                self.block = SpikformerBlock(16, 2, spiking_neuron=neuron, step_mode="m")
                self.head = nn.Linear(16, 10)

            def forward(self, frames):
                tokens = self.embed(frames.flatten(2).unflatten(2, (8, 8))).transpose(2, 3)
                return self.head(self.block(tokens.unflatten(3, (4, 2))).flatten(3).mean(3))

        def neuron(**kwargs):
            return self.neuron.LIFNode(tau=2.0, v_threshold=0.2, detach_reset=True, step_mode="m")

        net = Net(neuron).eval()
        self.functional.set_step_mode(net, "m")
        network = adapt(net, 3, call="sequence").eval()
        x = images(4)
        for chain in (HART(), STBP()):
            assert gradient(network, x, chain).any(), chain
            assert network.route.name == "step-by-step"  # attention multiplies spikes by spikes

    @pytest.mark.parametrize("kind", ["PSN", "KLIFNode", "QIFNode", "OTTTLIFNode", "TernaryIFNode", "EIFNode"])
    def test_other_neurons_are_refused_in_a_sentence(self, kind):
        if not hasattr(self.neuron, kind):
            pytest.skip("this version has none")
        arguments = {"PSN": {"T": T}}.get(kind, {})
        net = nn.Sequential(nn.Linear(4, 4), getattr(self.neuron, kind)(**arguments))
        with pytest.raises(ValueError, match=f"{kind} cannot be adapted"):
            adapt(net, T, call="step")

    def test_recurrent_layers_are_refused(self):
        inner = nn.Sequential(nn.Linear(8, 8), self.neuron.IFNode())
        recurrent = self.layer.ElementWiseRecurrentContainer(self.neuron.IFNode(), lambda x, y: x + y)
        with pytest.raises(ValueError, match="recurrent"):
            adapt(nn.Sequential(inner, recurrent), T, call="step")

    def test_feedback_is_found_by_its_gradient(self):
        class Back(nn.Module):
            def __init__(self, neuron):
                super().__init__()
                self.below, self.above = neuron(), neuron()
                self.linear, self.back, self.head = nn.Linear(64, 20), nn.Linear(20, 64), nn.Linear(20, 10)

            def forward(self, x):
                out, fed, steps = [], 0.0, 3
                for _ in range(steps):
                    spikes = self.above(self.linear(self.below(x.flatten(1) + fed)))
                    fed = self.back(spikes)
                    out.append(self.head(spikes))
                return torch.stack(out)

        network = adapt(Back(self.neuron.IFNode), 3, call="whole").eval()
        for chain in ("hart", "stbp"):
            with pytest.raises(ValueError, match=r"body.above reach a layer before it at a later step"):
                gradient(network, images(), chain)
        assert gradient(network, images(), "native").any()

    def test_one_module_at_two_places_is_refused(self):
        shared = self.neuron.IFNode()
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), shared, nn.Linear(20, 20), shared, nn.Linear(20, 10))
        network = adapt(net, T).eval()
        with pytest.raises(ValueError, match="runs twice at a time step"):
            gradient(network, images(), "hart")
        assert gradient(network, images(), "native").any()

    def test_poisson_and_event_frames(self):
        encoder = PoissonEncoder(seed=0)
        encoder.freeze()
        network = adapt(self.network("IFNode", "m"), T, encoder=encoder).eval()
        same = SpikingNetwork(plain(IF), T, encoder).eval()
        x = images(scale=1.0)
        assert close(gradient(network, x, HART()), gradient(same, x, HART()))
        assert network.route.name == "collapsed"

    def test_it_learns_by_its_own_autograd_and_says_what_a_chain_does_not_train(self, caplog):
        net = self.network("ParametricLIFNode", "s", init_tau=2.0)
        network, x = adapt(net, T).train(), images()
        F.cross_entropy(network(x), torch.arange(5)).backward()
        own = [parameter.grad.clone() for parameter in net.parameters()]
        net.zero_grad()
        F.cross_entropy(torch.stack([net(x) for _ in range(T)]).mean(0), torch.arange(5)).backward()
        assert all(torch.equal(mine, parameter.grad) for mine, parameter in zip(own, net.parameters(), strict=True))
        self.functional.reset_net(net)
        net = self.network("ParametricLIFNode", "m", init_tau=2.0)
        network = adapt(net, T).train()
        network.training_chain = "stbp"
        norm = nn.BatchNorm1d(10)
        net.append(self.layer.SeqToANNContainer(norm))
        logging.disable(logging.NOTSET)
        F.cross_entropy(network(x), torch.arange(5)).backward()
        assert net[0][0].weight.grad.any() and net[1].w.grad is None
        assert norm.num_batches_tracked == 1  # what is compared leaves no trace
        assert "STBP does not train what neurons themselves depend on" in caplog.text


class TestSnnTorch:
    snntorch = pytest.importorskip("snntorch")

    KINDS = {
        "subtract": ({"beta": 0.9}, lambda: LIF(0.9, reset="soft", reset_by=1 / 0.9, strict=True, detach_reset=True)),
        "zero": (
            {"beta": 0.8, "reset_mechanism": "zero", "threshold": 0.7},
            lambda: LIF(0.8, 0.7, strict=True, detach_reset=True),
        ),
        "none": ({"beta": 0.8, "reset_mechanism": "none"}, lambda: LIF(0.8, reset="none", strict=True)),
        "zero at once": (
            {"beta": 0.8, "reset_mechanism": "zero", "reset_delay": False},
            lambda: LIF(0.8, strict=True),
        ),
        "subtract at once": ({"beta": 0.8, "reset_delay": False}, lambda: LIF(0.8, reset="soft", strict=True)),
        "graded": (
            {"beta": 0.8, "graded_spikes_factor": 0.5},
            lambda: LIF(0.8, reset="soft", reset_by=1 / 0.8, strict=True, detach_reset=True, scale=0.5),
        ),
    }

    def looping(self, **kwargs):
        make = self.snntorch.Leaky

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.linear, self.readout = layers()
                self.lif1, self.lif2, self.num_steps = make(**kwargs), make(**kwargs), T

            def forward(self, x):
                mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []
                for _ in range(self.num_steps):
                    spikes, mem1 = self.lif1(self.conv(x), mem1)
                    spikes, mem2 = self.lif2(self.linear(F.avg_pool2d(spikes, 2).flatten(1)), mem2)
                    out.append(self.readout(spikes))
                return torch.stack(out)

        return Net()

    @pytest.mark.parametrize("kind", KINDS)
    def test_states_that_are_hidden(self, kind):
        kwargs, same = self.KINDS[kind]
        net = plain(lambda: self.snntorch.Leaky(init_hidden=True, **kwargs))
        agrees(adapt(net, T, call="step"), ours(same), scale=1.5 if kind == "subtract at once" else 3.0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_states_that_a_loop_inside_hands_on(self, kind):
        kwargs, same = self.KINDS[kind]
        net = self.looping(**kwargs)
        agrees(adapt(net, T, call="whole"), ours(same), scale=1.5 if kind == "subtract at once" else 3.0)
        assert net.num_steps == T

    def test_lapicque(self):
        net = plain(lambda: self.snntorch.Lapicque(R=1.0, C=2.0, time_step=1.0, init_hidden=True))
        same = ours(lambda: LIF(0.5, reset="soft", reset_by=2.0, strict=True, detach_reset=True))
        with torch.no_grad():
            for module in (same.body[0], same.body[4]):
                module.weight.div_(2.0)
                module.bias.div_(2.0)
        x = images(scale=9.0)
        network = adapt(net, T, call="step").eval()
        # Its reset subtracts θ beside a decay of 1 - Δt / RC, not of beta.
        for chain in (HART(), STBP(), RGA()):
            assert close(gradient(network, x, chain), gradient(same, x, chain)), chain

    def test_potentials_beyond_twice_the_threshold_are_no_soft_reset_at_once(self):
        net = plain(lambda: self.snntorch.Leaky(0.8, init_hidden=True, reset_delay=False))
        network = adapt(net, T, call="step").eval()
        with pytest.raises(
            ValueError,
            match=r"Leaky at body.1 does what its description says up to potentials of 2 thresholds; at step \d",
        ):
            gradient(network, images(scale=30.0), "hart")

    def test_an_output_that_is_a_potential_is_refused_and_native_follows_it(self):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), self.snntorch.Leaky(0.9, init_hidden=True, output=True))
        network = adapt(net, T, call="step", readout=lambda out: out[1].mean(0)).eval()
        for chain in ("hart", "stbp"):
            with pytest.raises(ValueError, match=r"depends on the state of Leaky at body\.2"):
                gradient(network, images(), chain)
        assert gradient(network, images(), "native").any()

    def test_a_state_that_is_changed_in_between_is_refused(self):
        class Net(nn.Module):
            def __init__(self, lif):
                super().__init__()
                self.linear, self.lif, self.head = nn.Linear(64, 20), lif, nn.Linear(20, 10)

            def forward(self, x):
                mem, out = self.lif.init_leaky(), []
                for _ in range(T):
                    spikes, mem = self.lif(self.linear(x.flatten(1)), mem)
                    mem = mem * 0.5
                    out.append(self.head(spikes))
                return torch.stack(out)

        network = adapt(Net(self.snntorch.Leaky(0.9)), T, call="whole").eval()
        with pytest.raises(ValueError, match="handed a state that is not the one it gave"):
            gradient(network, images(), "hart")
        assert gradient(network, images(), "native").any()

    @pytest.mark.parametrize("hidden", [True, False])
    @pytest.mark.parametrize("reset", ["subtract", "none"])
    def test_a_synapse_stays_in_autograd(self, reset, hidden):
        """The same neurons by a loop of its own, its threshold crossed by the triangle, and autograd."""
        make = self.snntorch.Synaptic
        settings = {"alpha": 0.6, "beta": 0.8, "reset_mechanism": reset}

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.linear, self.readout = layers()
                self.lif = make(**settings)

            def forward(self, x):
                syn, mem = self.lif.reset_mem()
                out = []
                for _ in range(T):
                    spikes, syn, mem = self.lif(self.conv(x), syn, mem)
                    out.append(self.readout(self.linear(F.avg_pool2d(spikes, 2).flatten(1))))
                return torch.stack(out)

        conv, linear, readout = layers()
        if hidden:
            lif = make(**settings, init_hidden=True)
            net = nn.Sequential(conv, lif, nn.AvgPool2d(2), nn.Flatten(), linear, readout)
        else:
            net = Net()
        network, x = adapt(net, T, call="step" if hidden else "whole").eval(), images()
        leaf, syn, mem, logits = x.clone().requires_grad_(), 0.0, 0.0, 0.0
        for _ in range(T):
            syn = 0.6 * syn + conv(leaf)
            fired = (mem > 1.0) * 1.0 if torch.is_tensor(mem) and reset == "subtract" else 0.0
            mem = 0.8 * mem + syn - fired
            spikes = Fire.apply(mem - 1.0 - 1e-9)
            logits = logits + readout(linear(F.avg_pool2d(spikes, 2).flatten(1))) / T
        F.cross_entropy(logits, torch.arange(5)).backward()
        for _ in range(4):  # with the neurons' own code, and with their description
            assert close(gradient(network, x, STBP()), leaf.grad, 1e-4) and leaf.grad.any()
        assert gradient(network, x, HART()).any() and network.route.name == "step-by-step"

    @pytest.mark.parametrize("kind", ["Synaptic", "Lapicque"])
    def test_a_reset_to_zero_that_forgets_more_is_refused(self, kind):
        settings = {"alpha": 0.6} if kind == "Synaptic" else {}
        lif = getattr(self.snntorch, kind)(beta=0.8, reset_mechanism="zero", init_hidden=True, **settings)
        with pytest.raises(ValueError, match="forgets the input of the step after a spike"):
            adapt(nn.Sequential(nn.Linear(4, 4), lif), T, call="step")

    @pytest.mark.parametrize("kind", ["RLeaky", "Alpha"])
    def test_other_neurons_are_refused_in_a_sentence(self, kind):
        settings = {"RLeaky": {"linear_features": 4}, "Alpha": {"alpha": 0.9}}[kind]
        beta = 0.8
        with pytest.raises(ValueError, match=f"{kind} cannot be adapted"):
            adapt(nn.Sequential(nn.Linear(4, 4), getattr(self.snntorch, kind)(beta=beta, **settings)), T, call="step")


class TestNorse:
    pytest.importorskip("norse")
    import norse.torch as norse

    @pytest.mark.parametrize("call", ["step", "sequence"])
    def test_integrate_and_fire(self, call):
        same = ours(lambda: IF(strict=True))
        if call == "step":
            agrees(adapt(plain(self.norse.IAFCell, body=self.norse.SequentialState), T, call=call), same)
        else:  # Lift takes one time step after the other out of the frames
            net = plain(self.norse.IAF, self.norse.Lift, self.norse.SequentialState)
            agrees(adapt(net, T, call=call), same, collapsed=False)

    @pytest.mark.parametrize("reset", ["value", "subtract"])
    def test_leaky_integrate_and_fire_in_a_box(self, reset):
        from norse.torch.functional.reset import reset_subtract, reset_value

        method = {"value": reset_value, "subtract": reset_subtract}[reset]
        p = self.norse.LIFBoxParameters(
            tau_mem_inv=torch.as_tensor(500.0), v_th=torch.as_tensor(0.5), reset_method=method
        )
        net = plain(lambda: self.norse.LIFBoxCell(p), body=self.norse.SequentialState)
        same = ours(lambda: LIF(0.5, 0.5, "hard" if reset == "value" else "soft", strict=True))
        with torch.no_grad():
            for module in (same.body[0], same.body[4]):
                module.weight.div_(2.0)
                module.bias.div_(2.0)
        agrees(adapt(net, T, call="step"), same)

    @pytest.mark.parametrize("call", ["step", "sequence"])
    def test_a_synapse_stays_in_autograd(self, call):
        """The same network by a loop of its own, its threshold crossed by the triangle, and autograd."""
        wrap, neuron = (nn.Identity, self.norse.LIFCell) if call == "step" else (self.norse.Lift, self.norse.LIF)
        net = plain(neuron, (lambda layer: layer) if call == "step" else wrap, self.norse.SequentialState)
        network, x = adapt(net, T, call=call).eval(), images(scale=9.0)
        conv, linear, readout = layers()

        class Spike(torch.autograd.Function):
            @staticmethod
            def forward(ctx, u):
                ctx.save_for_backward(u)
                return (u > 0).to(u.dtype)

            @staticmethod
            def backward(ctx, grad):
                return grad * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)

        def neurons(x, state):
            v, i = state
            i = i + x
            m = v + 1e-3 * 100.0 * (i - v)
            s = Spike.apply(m - 1.0)
            return s, ((1 - s) * m, i * (1 - 1e-3 * 200.0))

        leaf = x.clone().requires_grad_()
        first, second, logits = (0.0, 0.0), (0.0, 0.0), 0.0
        for _ in range(T):
            s, first = neurons(conv(leaf), first)
            s, second = neurons(linear(F.avg_pool2d(s, 2).flatten(1)), second)
            logits = logits + readout(s) / T
        F.cross_entropy(logits, torch.arange(5)).backward()
        assert close(gradient(network, x, STBP()), leaf.grad, 1e-4) and leaf.grad.any()
        assert gradient(network, x, HART()).any() and network.route.name == "step-by-step"

    def test_recurrent_neurons_are_refused(self):
        with pytest.raises(ValueError, match="recurrent"):
            adapt(self.norse.SequentialState(self.norse.LIFRecurrentCell(4, 4)), T, call="step")

    def test_other_neurons_are_refused_in_a_sentence(self):
        with pytest.raises(ValueError, match="cannot be adapted"):
            adapt(self.norse.SequentialState(nn.Linear(4, 4), self.norse.LIFAdExCell()), T, call="step")


class TestNIR:
    nir = pytest.importorskip("nir")

    def graph(self):
        nir, random = self.nir, np.random.default_rng(0)

        def full(size, value):
            return np.full(size, value, np.float32)

        def lif(size):
            return nir.LIF(full(size, 2e-3), full(size, 1.0), full(size, 0.0), full(size, 1.0), full(size, 0.0))

        nodes = {
            "input": nir.Input({"input": np.array([16])}),
            "fc1": nir.Affine(10 * random.normal(size=(20, 16)).astype(np.float32), full(20, 0.0)),
            "lif1": lif(20),
            "fc2": nir.Affine(10 * random.normal(size=(10, 20)).astype(np.float32), full(10, 0.0)),
            "lif2": lif(10),
            "output": nir.Output({"output": np.array([10])}),
        }
        return nir.NIRGraph(nodes=nodes, edges=list(zip(list(nodes), list(nodes)[1:], strict=False)))

    @pytest.mark.parametrize("library", ["norse", "snntorch", "spikingjelly"])
    def test_graphs_come_in_by_each_library(self, library):
        pytest.importorskip(library)
        if library == "norse":
            import norse.torch

            net = norse.torch.from_nir(self.graph(), dt=1e-3)
        elif library == "snntorch":
            from snntorch.import_nir import import_from_nir

            net = import_from_nir(self.graph())
        else:
            pytest.importorskip("spikingjelly.activation_based.nir_exchange")
            from spikingjelly.activation_based.nir_exchange import import_from_nir

            net = import_from_nir(self.graph(), dt=1e-3)
        network, x = adapt(net, T, call="step").eval(), torch.rand(3, 16)
        collapsed = gradient(network, x, HART())
        assert collapsed.any() and network.route.name == "collapsed"
        network.gradient_route = "step-by-step"
        assert close(gradient(network, x, HART()), collapsed)
        network.gradient_route = "auto"
        for _ in range(4):  # with the neurons' own code, and with their description
            assert close(gradient(network, x, HART()), collapsed)
        native = gradient(network, x, Native())
        assert not close(native, collapsed, 1e-3), "the library's own gradient in the chain's place"


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0].abs()).clamp(min=0)


class LIFSpike(nn.Module):
    """The class that many published defences share: time first, merged into the batch."""

    def __init__(self, T, thresh=1.0, tau=0.5, soft=False, factors=None):
        super().__init__()
        self.T, self.thresh, self.tau, self.soft, self.factors = T, thresh, tau, soft, factors

    def forward(self, x):
        x, mem, out = x.view(self.T, -1, *x.shape[1:]), 0.0, []
        for t in range(self.T):
            mem = mem * (self.tau if self.factors is None else self.factors[t]) + x[t]
            spike = Fire.apply(mem - self.thresh)
            mem = mem - spike * self.thresh if self.soft else (1 - spike) * mem
            out.append(spike)
        return torch.stack(out).flatten(0, 1)


class Half(nn.Module):
    """A step at a time, its state an attribute: mem += (x - mem) / 2, strict, v detached at the reset."""

    def __init__(self):
        super().__init__()
        self.mem = None

    def forward(self, x):
        mem = torch.zeros_like(x) if self.mem is None else self.mem
        mem = mem + (x - mem) / 2
        spike = Fire.apply(mem - 0.5) * (mem != 0.5)
        self.mem = mem * (1 - spike.detach())
        return spike


class Merged(nn.Module):
    """From images to logits `(T, B, K)`, by a class that has time merged into the batch."""

    def __init__(self, **settings):
        super().__init__()
        self.T = T
        self.features = plain(lambda: LIFSpike(T, **settings))

    def forward(self, x):
        x = x.unsqueeze(1).repeat(1, self.T, 1, 1, 1).transpose(0, 1).flatten(0, 1)
        return self.features(x).view(self.T, -1, 10)


class TestOwnClasses:
    DESCRIBED = {LIFSpike: lambda m: LIF(m.tau, m.thresh)}

    @pytest.mark.parametrize(
        ("settings", "describe", "same"),
        [
            ({}, lambda m: LIF(m.tau, m.thresh), lambda: LIF(0.5)),
            ({"soft": True, "thresh": 0.7}, lambda m: LIF(m.tau, m.thresh, "soft"), lambda: LIF(0.5, 0.7, "soft")),
            (
                {"factors": [0.9, 0.8, 0.7, 0.6, 0.5]},
                lambda m: LIF(torch.tensor(m.factors).reshape(T, *[1] * m.dims)),
                None,
            ),
        ],
    )
    def test_the_class_that_defences_share(self, settings, describe, same):
        net = Merged(**settings)
        for module, dims in ((net.features[1], 3), (net.features[5], 1)):
            module.dims = dims
        adapted = adapt(net, T, call="whole", neurons={LIFSpike: describe})
        if same is not None:
            agrees(adapted, ours(same))
            return
        adapted.eval()
        found = gradient(adapted, images(), STBP())
        assert close(found, gradient(adapted, images(), Native()), 1e-4)  # its surrogate is the triangle of γ = 1

    def test_from_a_state_dict_saved_elsewhere(self):
        saved = io.BytesIO()
        torch.save(Merged().state_dict(), saved)
        saved.seek(0)
        net = Merged()
        with torch.no_grad():
            net.features[0].weight.zero_()
        net.load_state_dict(torch.load(saved))
        agrees(adapt(net, T, call="whole", neurons=self.DESCRIBED), ours(lambda: LIF(0.5)))

    def test_a_state_kept_as_an_attribute_and_a_weight(self):
        description = {Half: lambda m: Description(LIF(0.5, 0.5, strict=True, detach_reset=True), weight=0.5)}
        net = plain(Half)
        network = adapt(net, T, call="step", neurons=description)
        same = ours(lambda: LIF(0.5, 0.5, strict=True, detach_reset=True))
        with torch.no_grad():
            for module in (same.body[0], same.body[4]):
                module.weight.div_(2.0)
                module.bias.div_(2.0)
        agrees(network, same)
        assert net[1].mem is None

    def test_batch_first(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.features = plain(lambda: LIFSpike(T))

            def forward(self, frames):
                return self.features(frames.transpose(0, 1).flatten(0, 1)).view(T, -1, 10).transpose(0, 1)

        network = adapt(Net(), T, call="batch-first", neurons=self.DESCRIBED)
        agrees(network, ours(lambda: LIF(0.5)), collapsed=None)

    WRONG = {
        "decay": lambda m: LIF(0.4),
        "threshold": lambda m: LIF(0.5, 1.1),
        "reset": lambda m: LIF(0.5, reset="soft"),
        "strict": lambda m: LIF(0.5, strict=True),
        "scale": lambda m: LIF(0.5, scale=2.0),
        "weight": lambda m: Description(LIF(0.5), weight=0.5),
        "v(0)": lambda m: LIF(0.5, v_init=0.5),
    }

    @pytest.mark.parametrize("chain", [HART(), STBP(), RGA(), CBA()], ids=repr)
    @pytest.mark.parametrize("what", WRONG)
    def test_a_wrong_description_never_gives_a_number(self, what, chain):
        network = adapt(Merged(), T, call="whole", neurons={LIFSpike: self.WRONG[what]}).eval()
        for scale in (3.0, 1e-3):  # silent neurons, too
            with pytest.raises(ValueError, match=r"LIFSpike at body.features.\d .*step \d"):
                gradient(network, images(scale=scale), chain)

    def test_a_learned_setting_is_looked_up_at_every_pass(self):
        net = Merged()
        network = adapt(net, T, call="whole", neurons=self.DESCRIBED).eval()
        gradient(network, images(), "hart")
        for module in (net.features[1], net.features[5]):
            module.tau = 0.9
        assert close(gradient(network, images(), HART()), gradient(ours(lambda: LIF(0.9)), images(), HART()))

    def test_a_module_that_is_called_past_its_call_is_refused(self):
        class Past(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.lif, self.unused = nn.Linear(64, 10), LIFSpike(T), LIFSpike(T)

            def forward(self, x):
                return LIFSpike.forward(self.lif, self.linear(x.flatten(1)).repeat(T, 1)).view(T, -1, 10)

        class Called(Past):
            def forward(self, x):
                return self.lif(self.linear(x.flatten(1)).repeat(T, 1)).view(T, -1, 10)

        with pytest.raises(ValueError, match=r"LIFSpike at body\.lif runs by another way"):
            gradient(adapt(Past(), T, call="whole", neurons=self.DESCRIBED).eval(), images(), "hart")
        used = adapt(Called(), T, call="whole", neurons=self.DESCRIBED).eval()
        assert gradient(used, images(), "hart").any()  # one that is not used is left alone


class TestArguments:
    def net(self):
        return Merged()

    def test_each_is_checked_by_name(self):
        known = TestOwnClasses.DESCRIBED
        for match, arguments in (
            ("network must be a torch.nn.Module", {"network": 3}),
            ("time_steps must be", {"time_steps": 0}),
            ("call must be one of", {"call": "often"}),
            ("call must be given", {"call": None}),
            ("readout must be one of", {"readout": "median"}),
            ("neurons must map", {"neurons": [LIFSpike]}),
            ("must have classes of modules as keys", {"neurons": {"LIFSpike": LIF}}),
            ("must be a function of the module", {"neurons": {LIFSpike: LIF(0.5)}}),
            ("of which the network has no module", {"neurons": {**known, Half: known[LIFSpike]}}),
            ("no neurons that are known", {"neurons": None}),
            ("must give an art_snn.LIF", {"neurons": {LIFSpike: lambda m: 0.5}}),
            ("decay must be in", {"neurons": {LIFSpike: lambda m: LIF(2.0)}}),
            ("encoder must not be given", {"encoder": PoissonEncoder()}),
        ):
            given = {"network": self.net(), "time_steps": T, "call": "whole", "neurons": known} | arguments
            with pytest.raises((ValueError, TypeError), match=match):
                adapt(given.pop("network"), given.pop("time_steps"), **given)
        with pytest.raises(TypeError, match="SpikingNetwork already"):
            adapt(ours(IF), T, call="step")

    def test_readouts(self):
        x, known = images(), TestOwnClasses.DESCRIBED
        outputs = self.net().eval()(x).detach()
        for readout, expected, alike in (
            ("mean", outputs.mean(0), True),
            ("sum", outputs.sum(0), True),
            ("last", outputs[-1], False),
            ("max", outputs.amax(0), False),
            (lambda out: out.mean(0), outputs.mean(0), True),
            (lambda out: out[0], outputs[0], False),
            (lambda out: out.sum(0) / T, outputs.mean(0), False),  # of one step it would be another number
        ):
            network = adapt(self.net(), T, call="whole", neurons=known, readout=readout).eval()
            with torch.no_grad():
                assert torch.allclose(network(x), expected)
            found = gradient(network, x, HART())
            assert network.route.name == ("collapsed" if alike else "step-by-step"), (readout, network.route)
            network.gradient_route = "step-by-step"
            assert close(gradient(network, x, HART()), found)

    def test_a_network_that_returns_a_tuple_asks_for_a_function(self):
        class Two(Merged):
            def forward(self, x):
                return super().forward(x), None

        with pytest.raises(TypeError, match="give a function as readout"):
            adapt(Two(), T, call="whole", neurons=TestOwnClasses.DESCRIBED)(images())

    def test_native_is_refused_elsewhere_by_name(self):
        with pytest.raises(ValueError, match="chain 'native' is the gradient of another library's autograd"):
            gradient(ours(IF), images(), Native())
        with pytest.raises(ValueError, match="training_chain must follow the simulation, which Native does not"):
            ours(IF).training_chain = "native"


TABLE = re.findall(
    r"^\| (SpikingJelly|snnTorch|Norse) `(\w+)` \| ([\d., ]+) \| (.*) \|$",
    (Path(__file__).parents[1] / "docs" / "adapt.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


class TestTheTableOfTheDocs:
    """docs/adapt.md says which classes of which releases are adapted, left in autograd, or refused."""

    ARGUMENTS = {
        "PSN": {"T": T},
        "Leaky": {"beta": 0.9},
        "Lapicque": {"beta": 0.9},
        "Synaptic": {"alpha": 0.9, "beta": 0.9},
        "Alpha": {"alpha": 0.9, "beta": 0.8},
        "RLeaky": {"beta": 0.9, "linear_features": 4},
        "SLSTM": {"input_size": 4, "hidden_size": 4},
        "LIFRecurrentCell": {"input_size": 4, "hidden_size": 4},
        "LSNNCell": {},
    }

    def module(self, library, kind):
        if library == "SpikingJelly":
            pytest.importorskip("spikingjelly")
            from spikingjelly.activation_based import layer, neuron

            if kind == "ElementWiseRecurrentContainer":
                return layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda x, y: x + y)
            found = getattr(neuron, kind, None)
        else:
            found = getattr(pytest.importorskip("snntorch" if library == "snnTorch" else "norse.torch"), kind)
        if found is None:
            pytest.skip("this version has none")
        return found(**self.ARGUMENTS.get(kind, {}))

    def test_it_is_read(self):
        assert len(TABLE) >= 24

    @pytest.mark.parametrize(("library", "kind", "release", "status"), TABLE)
    def test_each_line_is_true(self, library, kind, release, status):
        net = nn.Sequential(nn.Linear(4, 4), self.module(library, kind))
        if status.startswith("adapted"):
            network = adapt(net, T, call="sequence" if kind in ("LIF", "IAF") else "step")
            assert [layer.module for layer in network.layers] == [net[1]]
        else:
            match = "no neurons that are known" if status.startswith("an ordinary layer") else "cannot be adapted"
            with pytest.raises(ValueError, match=match):
                adapt(net, T, call="step")

    def test_the_releases_are_those_that_are_tested(self):
        names = {"SpikingJelly": "spikingjelly", "snnTorch": "snntorch", "Norse": "norse"}
        for library, _, release, _ in TABLE:
            try:
                assert metadata.version(names[library]) in release.split(", ") or library == "SpikingJelly"
            except metadata.PackageNotFoundError:
                continue

    @pytest.mark.parametrize("flag", [{"inhibition": True}, {"state_quant": lambda mem: mem}])
    def test_leaky_with_more_than_its_equations(self, flag):
        snntorch = pytest.importorskip("snntorch")
        with pytest.warns(UserWarning) if "inhibition" in flag else nullcontext():
            lif = snntorch.Leaky(0.9, **flag)
        with pytest.raises(ValueError, match="cannot be adapted"):
            adapt(nn.Sequential(nn.Linear(4, 4), lif), T, call="step")


class TestClassifier:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import neuron

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls):
        torch.manual_seed(0)
        (x, y), test, low, high = datasets.digits(seed=0)
        net = plain(lambda: cls.neuron.LIFNode(tau=2.0))
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        classifier = PyTorchSNNClassifier(
            adapt(net, 4), nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(low, high), device_type="cpu"
        )
        classifier.fit(x, y, batch_size=64, nb_epochs=6)
        return classifier, test

    def test_a_generator_and_an_adversarial_trainer_train_it(self, trained):
        from art.attacks.evasion import FastGradientMethod
        from art.data_generators import NumpyDataGenerator
        from art.defences.trainer import AdversarialTrainer

        (x, y), _, _, _ = datasets.digits(seed=0)
        for train in ("generator", "trainer"):
            classifier = copy.deepcopy(trained[0])
            before = classifier.model.body[0].weight.detach().clone()
            if train == "generator":
                classifier.fit_generator(NumpyDataGenerator(x[:128], y[:128], 64, 128), nb_epochs=1)
            else:
                attack = FastGradientMethod(classifier, eps=0.1)
                AdversarialTrainer(classifier, attack, ratio=0.5).fit(x[:128], y[:128], batch_size=64, nb_epochs=1)
                assert classifier.model.route.name == "collapsed"
            assert (classifier.model.body[0].weight - before).abs().max() > 0

    def test_fit_trains_it_and_attacks_fool_it(self, trained):
        from art.attacks.evasion import FastGradientMethod

        classifier, (x, y) = trained
        clean = (classifier.predict(x).argmax(1) == y.argmax(1)).mean()
        assert clean > 0.85
        attack = FastGradientMethod(classifier, eps=0.15)
        for chain in ("hart", "stbp", "native"):
            classifier.chain = chain
            assert (classifier.predict(attack.generate(x[:100], y[:100])).argmax(1) == y[:100].argmax(1)).mean() < clean

    def test_copies_and_pickles_are_networks_of_their_own(self, trained):
        classifier, (x, y) = trained
        for other in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
            assert np.array_equal(other.predict(x[:9]), classifier.predict(x[:9]))
            network = other.model
            assert [layer.module for layer in network.layers] == [network.body[1], network.body[5]]
            assert network.body[1] is not classifier.model.body[1]
            assert np.allclose(other.loss_gradient(x[:9], y[:9]), classifier.loss_gradient(x[:9], y[:9]))

    def test_auto_attack_rebuilds_it(self, trained):
        from art.attacks.evasion import AutoAttack, AutoProjectedGradientDescent

        classifier, (x, y) = trained
        classifier.chain = "hart"
        inner = AutoProjectedGradientDescent(
            classifier, eps=0.15, eps_step=0.05, max_iter=3, nb_random_init=1, verbose=False
        )
        found = AutoAttack(classifier, eps=0.15, eps_step=0.05, attacks=[inner], batch_size=32).generate(x[:32], y[:32])
        assert (classifier.predict(found).argmax(1) != y[:32].argmax(1)).sum() > 0
        assert classifier.model.route.name == "collapsed"

    def test_activations_are_rates(self, trained):
        classifier, (x, _) = trained
        assert classifier.layer_names == [f"body.{place}" for place in range(7)]
        rates = classifier.get_activations(x[:4], "body.5")
        assert rates.shape == (4, 40) and set(np.unique(rates)) <= {0.0, 0.25, 0.5, 0.75, 1.0}
        assert np.allclose(classifier.get_activations(x[:4], "body.6"), classifier.predict(x[:4]), atol=1e-6)
        leaf = torch.from_numpy(x[:4]).requires_grad_()
        classifier.get_activations(leaf, "body.5", framework=True).sum().backward()
        assert leaf.grad.any()

    def test_no_graph_is_left(self, trained):
        classifier, (x, y) = trained
        for chain in ("stbp", "hart", "native"):
            classifier.loss_gradient(x[:8], y[:8], chain=chain)
            gc.collect()
            before = living()
            for _ in range(3):
                classifier.loss_gradient(x[:8], y[:8], chain=chain)
            gc.collect()
            assert living() <= before, chain
