"""Small random networks for the property tests, in float64 so that rounding cannot hide an error."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import nn

from art_snn import LIF, EventFrames, PoissonEncoder, SpikingNetwork
from art_snn.chains import BPTR, HART, RGA, STBP, Rate


class Call(nn.Module):
    """A module that hides a function call inside its forward."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.body(x)


class Branches(nn.Module):
    """Two branches into one neuron layer, and a concatenation after it."""

    def __init__(self, channels: int, neurons) -> None:
        super().__init__()
        self.left = nn.Conv2d(channels, channels, 3, padding=1)
        self.right = nn.Conv2d(channels, channels, 1)
        self.neurons = neurons()

    def forward(self, x):
        spikes = self.neurons(self.left(x) + self.right(x))
        return torch.cat([spikes, x], 1)


class Twice(nn.Module):
    """One convolution and one neuron layer, both used twice in a pass."""

    def __init__(self, channels: int, neurons) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.neurons = neurons()

    def forward(self, x):
        return self.neurons(self.conv(self.neurons(self.conv(x))))


KINDS = ("plain", "residual", "branches", "twice", "skip")


def build(
    kind: str = "plain",
    *,
    seed: int = 0,
    time_steps: int = 4,
    decay: float = 0.9,
    threshold: float = 1.0,
    reset: str = "hard",
    v_rest: float = 0.0,
    encoder=None,
    channels: int = 2,
    extra: nn.Module | None = None,
) -> SpikingNetwork:
    """A network on inputs (B, channels, 6, 6) with 3 classes, weighted so that it fires, in evaluation mode."""

    def neurons() -> LIF:
        return LIF(decay, threshold, reset, v_rest)

    width = 4
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        middle = {
            "plain": [],
            "residual": [
                Residual(
                    nn.Conv2d(width, width, 3, padding=1),
                    nn.BatchNorm2d(width),
                    neurons(),
                    nn.Conv2d(width, width, 1),
                ),
                neurons(),
            ],
            "branches": [Branches(width, neurons), nn.Conv2d(2 * width, width, 1), neurons()],
            "twice": [Twice(width, neurons)],
            "skip": [Residual(neurons(), nn.Conv2d(width, width, 3, padding=1))],
        }[kind]
        body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            neurons(),
            *middle,
            nn.AvgPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            *([extra] if extra is not None else []),
            neurons(),
            nn.Flatten(),
            nn.Linear(9 * width, 3),
        )
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                with torch.no_grad():
                    module.weight.mul_(2.5)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.uniform_(module.bias, -0.5, 1.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.3, 1.5)
    return SpikingNetwork(body, time_steps, encoder).double().eval()


def image(seed: int, batch: int = 3, channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, 6, 6, generator=generator, dtype=torch.float64)


def recording(seed: int, time_steps: int, batch: int = 3, channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, time_steps, channels, 6, 6, generator=generator, dtype=torch.float64).mul(3).floor()


def gradient(network: SpikingNetwork, x: torch.Tensor, chain, route: str = "auto") -> torch.Tensor:
    """Gradient of a cross-entropy, which weighs the logits unequally."""
    network.chain, network.gradient_route = chain, route
    leaf = x.clone().requires_grad_()
    labels = torch.arange(len(x)) % 3
    nn.functional.cross_entropy(network(leaf), labels).backward()
    assert leaf.grad is not None
    return leaf.grad


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    scale = expected.norm()
    return float((got - expected).norm() / scale) if scale > 0 else float(got.norm())


seeds = st.integers(0, 10_000)
gammas = st.floats(0.3, 3.0)
chains_with_gain = st.one_of(gammas.map(HART), st.sampled_from([RGA(), BPTR(), Rate()]))
chains = st.one_of(chains_with_gain, gammas.map(STBP))


@st.composite
def networks(draw, encoder=None):
    """Random small networks over T, λ, θ, resets and shapes."""
    reset = draw(st.sampled_from(["hard", "soft"]))
    threshold = draw(st.floats(0.5, 1.5))
    time_steps = draw(st.integers(1, 6))
    if encoder is None:
        encoder = draw(st.sampled_from(["direct", "poisson", "events"]))
    if encoder == "poisson":
        made = PoissonEncoder(seed=draw(seeds))
        made.freeze()
    else:
        made = EventFrames() if encoder == "events" else None
    return build(
        draw(st.sampled_from(KINDS)),
        seed=draw(seeds),
        time_steps=time_steps,
        decay=draw(st.floats(0.3, 1.0)),
        threshold=threshold,
        reset=reset,
        v_rest=draw(st.sampled_from([0.0, -0.3, 0.2])) if reset == "hard" else 0.0,
        encoder=made,
    )


def input_for(network: SpikingNetwork, seed: int, batch: int = 3) -> torch.Tensor:
    if isinstance(network.encoder, EventFrames):
        return recording(seed, network.time_steps, batch)
    return image(seed, batch)
