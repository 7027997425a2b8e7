"""Where a network keeps time makes no difference: merged into the batch, time first, or one call for each step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_snn import SpikingNetwork
from art_snn.chains import ASSG, BPTR, CBA, HART, PDSG, RGA, STBP, AdaptiveHART, Mixed, Rate
from art_snn.engine.layout import Layout
from art_snn.neurons import SpikingLayer, visiting
from tests import networks as nets
from tests.test_state import Crossing, Merging, gradient

CHAINS = [HART(0.7), STBP(), RGA(), BPTR(), Rate(), CBA(), Mixed(), Mixed([STBP(0.5), Rate(), HART()]), Crossing()]
CHAINS += [AdaptiveHART(), PDSG(), ASSG(corrected=True)]


class InSteps(SpikingNetwork):
    """Calls its body once for each time step."""

    layout = Layout.STEPS

    def run(self, frames, visitor):
        outputs = []
        with visiting(visitor):
            for frame in frames:
                visitor.begin_step()
                outputs.append(self.body(frame))
        return torch.stack(outputs).mean(0)


class Each(nn.Module):
    """A layer without time, on `(T, B, ...)`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TimeFirst(SpikingNetwork):
    """Calls its body once, on `(T, B, ...)`."""

    layout = Layout.TIME_FIRST

    def run(self, frames, visitor):
        with visiting(visitor):
            return self.body(frames).mean(0)

    def once(self, frame, visitor):
        with visiting(visitor):
            return self.body(frame.unsqueeze(0)).squeeze(0)


def in_layout(kind, **kwargs):
    """A network and the same in the other layouts."""
    merged = nets.build(kind, **kwargs)
    yield InSteps(merged.body, merged.time_steps, merged.encoder).eval()
    if kind == "plain":
        body = nn.Sequential(*(layer if isinstance(layer, SpikingLayer) else Each(layer) for layer in merged.body))
        yield TimeFirst(body, merged.time_steps, merged.encoder).eval()


@pytest.mark.parametrize("kind", nets.KINDS)
def test_predictions_agree(kind):
    x = nets.image(1, 5)
    for network in in_layout(kind):
        with torch.no_grad():
            assert torch.equal(network(x), nets.build(kind)(x))


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("kind", nets.KINDS)
def test_gradients_agree_on_every_route(kind, chain, reset):
    x = nets.image(1, 5)
    expected = gradient(nets.build(kind, reset=reset), x, chain)
    assert expected.abs().max() > 0
    for network in in_layout(kind, reset=reset):
        for route in ("auto", "step-by-step"):
            network.gradient_route = route
            for _ in range(3):  # with comparisons and without
                assert torch.allclose(gradient(network, x, chain), expected, rtol=1e-10, atol=1e-12)
        if network.layout is Layout.STEPS:  # time first is not known to keep samples apart, and goes step by step
            network.gradient_route = "auto"
            merged = nets.build(kind, reset=reset)
            gradient(merged, x, chain), gradient(network, x, chain)
            assert network.route == merged.route


def test_runs_agree_too():
    merged, x = nets.build(), nets.image(1, 5)
    for network in in_layout("plain"):
        for chain in (Merging(), Crossing()):
            with chain.run():
                expected = [gradient(merged, x, chain) for _ in range(3)]
            with chain.run():
                found = [gradient(network, x, chain) for _ in range(3)]
            for one, other in zip(found, expected, strict=True):
                assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_cutting_a_batch_changes_nothing(monkeypatch):
    x, chain = nets.image(1, 5), Mixed()
    expected = gradient(nets.build(), x, chain)
    monkeypatch.setattr("art_snn.engine.layout.BLOCK", 1)
    for network in in_layout("plain"):
        network.memory_bound = 3 * 2 * 4 * 4 * 36 * 8
        assert torch.allclose(gradient(network, x, chain), expected, rtol=1e-10, atol=1e-12)


class Recurrent(InSteps):
    """Its second layer's spikes come back to its first, a step later."""

    def run(self, frames, visitor):
        first, neurons, rest = self.body[0], self.body[2], self.body[3:]
        outputs, back = [], 0.0
        with visiting(visitor):
            for frame in frames:
                visitor.begin_step()
                spikes = neurons(first(frame) + back)
                second = rest[0](rest[1](spikes))
                back = second.mean((1, 2, 3), keepdim=True)
                outputs.append(rest[2:](second))
        return torch.stack(outputs).mean(0)


def test_a_recurrent_network_is_refused_by_name():
    body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Identity(), nets.LIF(), nets.LIF(), nn.Conv2d(4, 4, 1))
    body.extend([nn.Flatten(), nn.Linear(144, 3)])
    network = Recurrent(body.double(), 4).eval()
    with pytest.raises(ValueError, match="a recurrent network"):
        gradient(network, 5 * nets.image(1, 5), STBP(gamma=2.0))
