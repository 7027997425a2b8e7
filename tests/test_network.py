"""The network, its neurons and its encoders."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from art_snn import IF, LIF, DirectEncoder, EventFrames, PoissonEncoder, SpikingNetwork, get_chain
from art_snn.chains import CBA, CHAINS, HART, RGA, STBP, BackwardChain, Mixed, Rate
from art_snn.neurons import simulate
from tests import networks as nets


def by_hand(current, steps, decay, threshold, reset, v_rest=0.0):
    """Eqs. 1-4 for one neuron, in plain Python."""
    v, spikes, potentials = 0.0, [], []
    for t in range(steps):
        m = decay * v + current(t)
        s = 1.0 if m >= threshold else 0.0
        v = m - s * ((m - v_rest) if reset == "hard" else threshold)
        spikes.append(s)
        potentials.append(m)
    return spikes, potentials


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("v_rest", [0.0, -0.4])
def test_dynamics_follow_equations_1_to_4(reset, decay, v_rest):
    if reset == "soft":
        v_rest = 0.0
    layer = LIF(decay, 0.8, reset, v_rest)

    def current(t):
        return 0.55 + 0.5 * math.sin(3 * t)

    currents = torch.tensor([current(t) for t in range(20)], dtype=torch.float64).view(20, 1, 1)
    trace = layer.trace(currents)
    spikes, potentials = by_hand(current, 20, decay, 0.8, reset, v_rest)
    assert trace.spikes.flatten().tolist() == spikes
    assert trace.potentials.flatten().tolist() == pytest.approx(potentials, abs=1e-12)
    assert layer.simulate(currents).flatten().tolist() == spikes
    assert float(trace.rate) == pytest.approx(sum(spikes) / 20)
    assert 0 < sum(spikes) < 20


def test_a_membrane_at_the_threshold_fires():
    currents = torch.ones(1, 1, 1)
    assert simulate(currents, decay=1.0, threshold=1.0, reset="hard", v_rest=0.0).item() == 1.0


def test_simulation_leaves_its_input_alone():
    currents = torch.rand(4, 2, 3)
    before = currents.clone()
    LIF().simulate(currents)
    LIF().trace(currents)
    assert torch.equal(currents, before)


def test_if_is_lif_without_leak():
    assert IF(threshold=0.7, reset="soft").decay == 1.0
    assert isinstance(IF(), LIF)


def test_layers_have_their_own_parameters():
    body = nn.Sequential(LIF(0.5), nn.Conv2d(1, 1, 1), LIF(0.9, 0.7, "soft"), nn.Flatten(), nn.Linear(4, 2))
    network = SpikingNetwork(body, 3)
    assert network(torch.rand(2, 1, 2, 2)).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"decay": 0.0}, "decay"),
        ({"decay": 1.1}, "decay"),
        ({"decay": math.nan}, "decay"),
        ({"decay": "a"}, "decay"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": math.inf}, "threshold"),
        ({"reset": "softly"}, "reset"),
        ({"v_rest": 1.0}, "v_rest"),
        ({"v_rest": -0.1, "reset": "soft"}, "v_rest"),
    ],
)
def test_neuron_parameters_out_of_range_are_named(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        LIF(**arguments)


def small_body() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 4), LIF(), nn.Linear(4, 2))


@pytest.mark.parametrize("time_steps", [0, -1, 2.0, True, "8"])
def test_time_steps_out_of_range_are_named(time_steps):
    with pytest.raises(ValueError, match="time_steps"):
        SpikingNetwork(small_body(), time_steps)


def test_a_body_without_spiking_layers_is_refused():
    with pytest.raises(ValueError, match="no spiking layer"):
        SpikingNetwork(nn.Linear(2, 2), 4)


def test_wrong_kinds_are_named():
    with pytest.raises(TypeError, match="body"):
        SpikingNetwork(lambda x: x, 4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="encoder"):
        SpikingNetwork(small_body(), 4, encoder="direct")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x must be"):
        SpikingNetwork(small_body(), 4)([1.0])
    with pytest.raises(ValueError, match="at least one sample"):
        SpikingNetwork(small_body(), 4)(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="gradient_route"):
        SpikingNetwork(small_body(), 4).gradient_route = "fast"


def test_a_spiking_layer_outside_a_network_says_so():
    with pytest.raises(RuntimeError, match="SpikingNetwork"):
        LIF()(torch.rand(4, 2))


def test_a_body_that_loses_the_batch_says_so():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(0)

    with pytest.raises(ValueError, match=r"T\*B"):
        SpikingNetwork(nn.Sequential(small_body(), Mean()), 4)(torch.rand(3, 4))
    with pytest.raises(ValueError, match="time_steps"):
        SpikingNetwork(nn.Sequential(Mean(), LIF(), nn.Linear(4, 2)), 4)(torch.rand(3, 4))


def test_layers_before_the_first_neurons_run_once_under_direct_encoding():
    network = nets.build(time_steps=5)
    batches = []
    forward = network.body[0].forward
    network.body[0].forward = lambda x: batches.append(len(x)) or forward(x)
    with torch.no_grad():
        network(nets.image(0))
    assert batches == [3]


class StepScale(nn.Module):
    """A factor for each time step, as in temporal batch norm."""

    def forward(self, x):
        factors = torch.linspace(0.5, 2.0, 4, dtype=x.dtype).view(4, 1, 1, 1, 1)
        return (x.unflatten(0, (4, -1)) * factors).flatten(0, 1)


@pytest.mark.parametrize("batch", [1, 3, 4, 8])
def test_layers_that_know_about_time_get_all_steps_also_before_the_first_neurons(batch):
    def network(scaled):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), scaled, LIF(), nn.Flatten(), nn.Linear(144, 3))
        return SpikingNetwork(body, 4).double().eval()

    hooked, plain = network(nn.Identity()), network(StepScale())
    hooked.body[1].register_forward_hook(lambda module, args, out: StepScale()(out))
    x = 4 * nets.image(2, batch)
    for built in (hooked, plain):
        alone = torch.cat([built(sample[None]) for sample in x])
        assert torch.allclose(built(x), alone, atol=1e-12)
        assert nets.relative(nets.gradient(built, x, HART()), nets.gradient(built, x, HART(), "step-by-step")) < 1e-10
        assert built.route.name == "step-by-step"


def test_event_frames_need_one_frame_a_step():
    network = nets.build(time_steps=4, encoder=EventFrames())
    with pytest.raises(ValueError, match="one event frame per time step"):
        network(nets.recording(0, 5))


def test_direct_encoding_repeats_the_image():
    x = nets.image(0)
    frames = DirectEncoder()(x, 3)
    assert frames.shape == (3, *x.shape)
    assert all(torch.equal(frame, x) for frame in frames)


class TestPoissonEncoder:
    def test_pixels_are_firing_probabilities(self):
        x = torch.tensor([[0.0, 0.2, 0.5, 1.0]])
        frames = PoissonEncoder(seed=1)(x, 20_000)
        assert set(frames.unique().tolist()) == {0.0, 1.0}
        assert frames.mean(0).flatten().tolist() == pytest.approx([0.0, 0.2, 0.5, 1.0], abs=0.02)

    def test_gradient_passes_straight_through(self):
        x = torch.rand(2, 3, requires_grad=True)
        PoissonEncoder(seed=1)(x, 5).sum().backward()
        assert torch.equal(x.grad, torch.full((2, 3), 5.0))

    def test_noise_is_fresh_at_every_call_and_seeded(self):
        x = torch.rand(2, 50)
        encoder = PoissonEncoder(seed=3)
        first, second = encoder(x, 4), encoder(x, 4)
        assert not torch.equal(first, second)
        again = PoissonEncoder(seed=3)
        assert torch.equal(again(x, 4), first) and torch.equal(again(x, 4), second)
        assert not torch.equal(PoissonEncoder(seed=4)(x, 4), first)
        assert isinstance(PoissonEncoder().seed, int)

    def test_frozen_noise_is_the_same_for_every_call_and_sample(self):
        x = torch.rand(1, 50).repeat(3, 1)
        encoder = PoissonEncoder(seed=3)
        with encoder.frozen():
            first = encoder(x, 4)
            assert torch.equal(encoder(x, 4), first) and encoder.is_frozen
            assert torch.equal(first[:, 0], first[:, 2])
            assert torch.equal(encoder(x[:1], 4), first[:, :1])
        assert not encoder.is_frozen
        assert not torch.equal(encoder(x, 4), first)

    def test_own_noise_can_be_given(self):
        encoder, noise = PoissonEncoder(), torch.rand(4, 2, 5)
        x = torch.rand(2, 5)
        encoder.freeze(noise)
        assert torch.equal(encoder(x, 4), (x >= noise).float())
        with pytest.raises(ValueError, match="frozen noise"):
            encoder(torch.rand(3, 5), 4)
        with pytest.raises(ValueError, match="noise must be"):
            encoder.freeze(torch.zeros(4, 2, dtype=torch.int64))

    def test_global_random_state_is_untouched(self):
        before = torch.get_rng_state()
        PoissonEncoder()(torch.rand(2, 3, generator=torch.Generator().manual_seed(0)), 4)
        assert torch.equal(torch.get_rng_state(), before)

    def test_copies_go_on_alike(self):
        x = torch.rand(2, 50)
        encoder = PoissonEncoder(seed=3)
        encoder(x, 4)
        copies = [copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))]
        expected = encoder(x, 4)
        assert all(torch.equal(other(x, 4), expected) for other in copies)

    @pytest.mark.parametrize("seed", [-1, 1.5, True, "1"])
    def test_bad_seeds_are_named(self, seed):
        with pytest.raises(ValueError, match="seed"):
            PoissonEncoder(seed=seed)


class TestChains:
    @pytest.mark.parametrize("name", CHAINS)
    def test_are_found_by_name(self, name):
        assert isinstance(get_chain(name), CHAINS[name])
        assert get_chain(name.upper()) == get_chain(name)
        assert get_chain(get_chain(name)) == get_chain(name)

    def test_unknown_names_are_listed(self):
        with pytest.raises(ValueError, match=r"hart.*got 'bptt'"):
            get_chain("bptt")
        with pytest.raises(TypeError, match="BackwardChain"):
            get_chain(3)  # type: ignore[arg-type]

    @pytest.mark.parametrize("chain", [HART, STBP])
    @pytest.mark.parametrize("gamma", [0, -1.0, math.nan, math.inf, "1", True])
    def test_gamma_out_of_range_is_named(self, chain, gamma):
        with pytest.raises(ValueError, match="gamma"):
            chain(gamma=gamma)

    def test_mixture_of_paper_by_default(self):
        assert list(Mixed().parts()) == [(0.5, HART()), (0.5, STBP())]

    def test_mixtures_nest(self):
        mixed = Mixed([Mixed(["hart", "rga"], [0.25, 0.75]), "stbp"], [2.0, 1.0])
        assert list(mixed.parts()) == [(0.5, HART()), (1.5, RGA()), (1.0, STBP())]

    def test_bad_mixtures_are_named(self):
        with pytest.raises(ValueError, match="chains"):
            Mixed([])
        with pytest.raises(ValueError, match="chains"):
            Mixed("hart")
        with pytest.raises(ValueError, match="weights"):
            Mixed(["hart"], [1.0, 2.0])
        with pytest.raises(ValueError, match="weights"):
            Mixed(["hart"], [math.nan])

    def test_a_users_own_chain_works_by_its_definition(self):
        class Identity(BackwardChain):
            def backward(self, grad_spikes, trace):
                return grad_spikes

        network, x = nets.build(), nets.image(0)
        got = nets.gradient(network, x, Identity())
        assert network.route.name == "step-by-step"

        class WithGain(Identity):
            def gain(self, trace):
                return torch.ones_like(trace.potentials[0])

        assert nets.relative(nets.gradient(network, x, WithGain()), got) < 1e-12
        assert network.route.name == "collapsed"

    def test_rate_is_silent_where_no_current_flows(self):
        layer = LIF()
        trace = layer.trace(-torch.rand(4, 2, 3))
        assert torch.equal(Rate().gain(trace), torch.zeros(2, 3))

    def test_cba_follows_no_simulation(self):
        assert not CBA().has_gain
        with pytest.raises(NotImplementedError, match="CBA"):
            CBA().backward(torch.zeros(1), None)  # type: ignore[arg-type]


def test_cba_in_a_mixture_is_refused_by_the_network():
    with pytest.raises(ValueError, match="mixes CBA"):
        nets.gradient(nets.build(), nets.image(0), Mixed(["cba", "hart"]))


def test_importing_the_package_loads_nothing_heavy_that_art_does_not():
    heavy = ["torchvision", "tonic", "matplotlib", "pandas", "tensorflow", "psutil"]
    theirs = "import sys, torch.compiler, torch._dynamo, art.estimators.classification, art.attacks.evasion; "
    code = theirs + "before = set(sys.modules); import art_snn, art_snn.datasets, art_snn.models; "
    code += f"print([m for m in {heavy} if m in set(sys.modules) - before])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("chain", ["hart", "stbp", "cba"])
def test_a_sample_whose_loss_has_no_gradient_leaves_the_others_alone(chain, caplog):
    torch.manual_seed(0)
    network = SpikingNetwork(small_body(), 4, chain=chain).eval()
    x = torch.rand(3, 4, requires_grad=True)

    def gradient(gap):
        logits = network(x)
        ratio = (logits[:, 0] - logits[:, 1]) / (gap + 0 * logits[:, 0])
        return torch.autograd.grad(ratio.sum(), x)[0]

    whole = gradient(torch.tensor([1.0, 1.0, 1.0]))
    assert not caplog.records
    tied = gradient(torch.tensor([1.0, 0.0, 1.0]))
    assert "1 of 3 samples" in caplog.text
    assert torch.equal(tied[[0, 2]], whole[[0, 2]])
    assert tied[1].eq(0).all() and whole.ne(0).any()
