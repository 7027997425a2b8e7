"""Every chain agrees with the gradients of an independent implementation (tests/golden/README.md)."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from art_snn import DirectEncoder, EventFrames, PoissonEncoder, SpikingNetwork
from art_snn.chains import ASSG, BPTR, CBA, HART, PDSG, RGA, STBP, Rate
from art_snn.neurons import LIF
from art_snn.surrogates import ATan, Exponential, Gaussian, Rectangle, Sigmoid, StraightThrough

FILES = sorted((Path(__file__).parent / "golden").glob("*.npz"))
TOLERANCE = 1e-4
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


class Golden:
    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.file = np.load(path)
        self.meta = json.loads(str(self.file["meta"]))
        self.events = self.meta["input"] == "events"
        encoder = {"image": DirectEncoder, "events": EventFrames, "poisson": PoissonEncoder}[self.meta["input"]]()
        if self.meta["input"] == "poisson":
            encoder.freeze(torch.from_numpy(self.file["poisson_uniform"]))
        self.network = SpikingNetwork(self.layers(self.meta["layers"]), self.meta["time_steps"], encoder).eval()
        state = {
            f"body.{self.torch_name(key)}": torch.from_numpy(self.file[key])
            for key in self.file
            if key.startswith("weights/")
        }
        missing, unexpected = self.network.load_state_dict(state, strict=False)
        assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
        self.network.to(device)
        self.x = torch.from_numpy(self.frames_last(self.file["x"])).to(device)
        self.y = torch.from_numpy(self.file["y"]).to(device)

    def torch_name(self, key: str) -> str:
        *indices, name = key.removeprefix("weights/").split(".")
        return ".body.".join(indices) + "." + name

    def frames_last(self, array: np.ndarray) -> np.ndarray:
        """The files' events are time first; the package's are batch first."""
        return np.ascontiguousarray(array.swapaxes(0, 1)) if self.events else array

    def layers(self, specs: list[dict]) -> nn.Sequential:
        def layer(spec: dict) -> nn.Module:
            kind = spec["type"]
            if kind == "conv":
                return nn.Conv2d(spec["in"], spec["out"], spec["kernel"], spec["stride"], spec["padding"])
            if kind == "bn":
                return nn.BatchNorm2d(spec["features"])
            if kind == "lif":
                return LIF(self.meta["decay"], self.meta["threshold"], self.meta["reset"])
            if kind == "avgpool":
                return nn.AvgPool2d(spec["kernel"])
            if kind == "flatten":
                return nn.Flatten()
            if kind == "linear":
                return nn.Linear(spec["in"], spec["out"])
            assert kind == "residual"
            return Residual(self.layers(spec["body"]))

        return nn.Sequential(*map(layer, specs))

    def gradient(self, chain) -> np.ndarray:
        self.network.chain = chain
        x = self.x.clone().requires_grad_()
        nn.functional.cross_entropy(self.network(x), self.y).backward()
        return x.grad.cpu().numpy()

    def expected(self, key: str) -> np.ndarray:
        return self.frames_last(self.file[f"grad/{key}"])


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.fixture(params=product(FILES, DEVICES), ids=lambda where: f"{where[0].stem}-{where[1]}")
def golden(request, monkeypatch) -> Golden:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which rounds to a thousandth, on GPUs
    return Golden(*request.param)


def test_there_are_golden_files():
    assert len(FILES) == 7


def test_logits(golden):
    with torch.no_grad():
        logits = golden.network(golden.x).cpu().numpy()
    assert relative_error(logits, golden.file["logits"]) < TOLERANCE


@pytest.mark.parametrize("chain", [STBP(), RGA(), BPTR(), CBA()], ids=lambda chain: type(chain).__name__)
@pytest.mark.parametrize("route", ["auto", "step-by-step"])
def test_gradient(golden, chain, route):
    key = type(chain).__name__.lower()
    if f"grad/{key}" not in golden.file:
        pytest.skip(f"the file holds no gradient of {key}")
    golden.network.gradient_route = route
    assert relative_error(golden.gradient(chain), golden.expected(key)) < TOLERANCE


def test_gradient_with_the_reset_held_constant(golden):
    for layer in golden.network.modules():
        if isinstance(layer, LIF):
            layer.detach_reset = True
    got, expected = golden.gradient(STBP()), golden.expected("stbp-detached")
    assert relative_error(got, expected) < TOLERANCE
    other = relative_error(golden.expected("stbp"), expected)
    assert other > TOLERANCE or golden.meta["time_steps"] == 1


def test_the_chain_can_hold_the_reset_constant(golden):
    got = golden.gradient(STBP(detach_reset=True))
    assert relative_error(got, golden.expected("stbp-detached")) < TOLERANCE


SURROGATES = {
    "rectangle": Rectangle,
    "sigmoid": Sigmoid,
    "atan": ATan,
    "exponential": Exponential,
    "gaussian": Gaussian,
    "straight": lambda width: StraightThrough(),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_gradient_with_another_surrogate(golden, name):
    keys = [key.removeprefix("grad/") for key in golden.file if key.startswith(f"grad/stbp/{name}/")]
    assert keys
    for key in keys:
        chain = STBP(surrogate=SURROGATES[name](float(key.split("/")[-1])))
        assert relative_error(golden.gradient(chain), golden.expected(key)) < TOLERANCE


def test_potential_dependent_surrogates(golden):
    assert relative_error(golden.gradient(PDSG()), golden.expected("pdsg")) < TOLERANCE


def test_surrogates_that_adapt_over_a_run(golden):
    numbers = sorted(int(key.split("/")[-1]) for key in golden.file if key.startswith("grad/assg/"))
    assert numbers == [1, 3]
    chain = ASSG()
    with chain.run():
        for number in range(1, numbers[-1] + 1):
            got = golden.gradient(chain)
            if number in numbers:
                assert relative_error(got, golden.expected(f"assg/{number}")) < TOLERANCE
    assert relative_error(golden.gradient(chain), golden.expected("assg/1")) < TOLERANCE


@pytest.mark.parametrize("route", ["collapsed", "step-by-step"])
def test_hart_gradient(golden, route):
    golden.network.gradient_route = route
    for gamma in golden.meta["gammas"]:
        assert relative_error(golden.gradient(HART(gamma)), golden.expected(f"hart/{gamma}")) < TOLERANCE


@pytest.mark.parametrize("route", ["collapsed", "step-by-step"])
def test_rate_gradient_has_the_direction(golden, route):
    if "grad/rate" not in golden.file or "residual" in golden.meta["name"]:
        pytest.skip("the expectation of the file is over the batch, which shows in the direction here")
    golden.network.gradient_route = route
    got = golden.gradient(Rate()).reshape(len(golden.x), -1)
    expected = golden.expected("rate").reshape(len(golden.x), -1)
    for a, b in zip(got, expected, strict=True):
        assert relative_error(a / np.linalg.norm(a), b / np.linalg.norm(b)) < TOLERANCE


def test_activation_network_logits(golden):
    if "logits/cba" not in golden.file:
        pytest.skip("the file holds no activation network")
    golden.network.chain = CBA()
    logits = golden.network(golden.x.clone().requires_grad_()).detach().cpu().numpy()
    assert relative_error(logits, golden.file["logits/cba"]) < TOLERANCE
