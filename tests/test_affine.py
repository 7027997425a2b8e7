"""A gradient is collapsed over time only where that is exact; the user sees which route was taken, and why."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from art_snn import LIF, EventFrames, SpikingNetwork
from art_snn.chains import BPTR, HART, RGA, STBP, Mixed, Rate
from tests import networks as nets
from tests.networks import Call


class SideBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x + 0.1 * torch.relu(self.conv(x))


class OwnFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.5

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.5


def no_grad_scale(x):
    with torch.no_grad():
        scale = x.mean((1, 2, 3), keepdim=True)
    return x * scale


def time_mean(x, time_steps=4):
    """Adds each sample's mean over time: what a layer that knows about time would do."""
    unfolded = x.unflatten(0, (time_steps, -1))
    return (unfolded + unfolded.mean(0, keepdim=True)).flatten(0, 1)


def roll_over_time(x, time_steps=4):
    return x.unflatten(0, (time_steps, -1)).roll(1, 0).flatten(0, 1)


def shift_by_padding(x, time_steps=4):
    return F.pad(x.unflatten(0, (time_steps, -1)), (0,) * 8 + (1, -1)).flatten(0, 1)


def matrix_of_each_step(x, time_steps=4):
    matrices = torch.linspace(0.0, 0.6, 9 * 9 * time_steps, dtype=x.dtype).view(time_steps, 9, 9)
    return torch.bmm(x.flatten(2), matrices.repeat_interleave(len(x) // time_steps, 0)).view_as(x)


def mean_over_samples(x):
    return x + x.flatten(1).expand(len(x), len(x), -1).mean(1).view_as(x)


def two_factors_in_turn(x):
    return x * torch.tensor([1.0, 3.0], dtype=x.dtype).repeat(len(x) // 2 + 1)[: len(x)].view(-1, 1, 1, 1)


def filter_over_time(x):
    kernel = torch.linspace(0.1, 0.5, 9, dtype=x.dtype).view(1, 1, 9)
    return F.conv1d(x.reshape(1, 1, -1), kernel, padding=4).view_as(x)


def less_the_mean_over_samples(x, time_steps=4):
    unfolded = x.unflatten(0, (time_steps, -1))
    return (unfolded - 0.9 * unfolded.mean(1, keepdim=True)).flatten(0, 1)


def clipped_gradient(x):
    x = x.clone()
    if x.requires_grad:
        x.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))
    return x


def straight_through(x):
    return x + (torch.round(x) - x).detach()


INEXACT = {
    "max pooling": nn.MaxPool2d(3, 1, 1),
    "relu in a side branch": SideBranch(),
    "relu as a function": Call(lambda x: F.relu(x) - 0.5),
    "clamp": Call(lambda x: x.clamp(-1.0, 1.0)),
    "product of two inputs": Call(lambda x: x * x),
    "square by data": Call(lambda x: x * x.data),
    "division by the input": Call(lambda x: 1.0 / (2.0 + x)),
    "mask": Call(lambda x: x * (x > 0.2)),
    "where": Call(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "softmax": Call(lambda x: torch.softmax(x.flatten(1), 1).view_as(x)),
    "group norm": nn.GroupNorm(2, 4),
    "statistics of the input": Call(no_grad_scale),
    "detached factor": Call(lambda x: x * x.detach().mean((1, 2, 3), keepdim=True)),
    "straight-through rounding": Call(straight_through),
    "own autograd function": Call(OwnFunction.apply),
    "control flow by data": Call(lambda x: x if x.mean() > 100 else 2 * x),
    "mean over time": Call(time_mean),
    "shift in time": Call(roll_over_time),
    "shift in time by padding": Call(shift_by_padding),
    "a matrix for each step": Call(matrix_of_each_step),
    "mean over samples": Call(mean_over_samples),
    "values as a list": Call(lambda x: x * x.tolist()[0][0][0][0]),
    "factors in turn": Call(two_factors_in_turn),
    "filter over time": Call(filter_over_time),
    "less the mean over samples": Call(less_the_mean_over_samples),
    "factor of whole numbers": Call(lambda x: x * (3 * x).int().to(x.dtype).mean()),
    "the bits of a number": Call(lambda x: x * (x.view(torch.int64) >> 52).double().mean() / 1000),
    "hook on the gradient": Call(clipped_gradient),
    "size of the batch": Call(lambda x: x * (0.5 + 2.0 / len(x))),
    "random scale": Call(lambda x: x * torch.rand(1, dtype=x.dtype)),
    "mean over the batch": Call(lambda x: x - x.mean(0, keepdim=True)),
    "in-place relu": Call(lambda x: x.clone().relu_()),
    "matrix of two inputs": Call(lambda x: torch.matmul(x, x.transpose(2, 3))),
}

EXACT = {
    "convolution": nn.Conv2d(4, 4, 3, padding=1),
    "batch norm": nn.BatchNorm2d(4),
    "average pooling": nn.AvgPool2d(3, 1, 1),
    "adaptive average pooling": nn.AdaptiveAvgPool2d(3),
    "dropout in evaluation": nn.Dropout(0.5),
    "identity": nn.Identity(),
    "in-place sum": Call(lambda x: x.clone().add_(x, alpha=0.5)),
    "scaled shift": Call(lambda x: 2.0 * x / 3.0 - 0.25),
    "per-channel scale": Call(lambda x: x * torch.arange(1.0, 5.0, dtype=x.dtype).view(1, 4, 1, 1)),
    "concatenation and slice": Call(lambda x: torch.cat([x, 2 * x], 1)[:, 2:6]),
    "permutation": Call(lambda x: x.permute(0, 1, 3, 2)),
    "padding": Call(lambda x: F.pad(x, (1, 1, 1, 1))[:, :, 1:-1, 1:-1]),
    "mean over space": Call(lambda x: x + x.mean((2, 3), keepdim=True)),
    "buffer": Call(lambda x: torch.zeros_like(x.detach().new_empty(len(x), 4, 3, 3)).copy_(x)),
}


@pytest.mark.parametrize("name", INEXACT)
@pytest.mark.parametrize("batch", [1, 3, 4, 8])
@pytest.mark.parametrize("chain", [HART(0.8), RGA()], ids=["HART", "RGA"])
def test_what_is_not_affine_takes_the_step_by_step_route(name, batch, chain):
    network = nets.build(time_steps=4, extra=INEXACT[name].double())
    x = nets.image(1, batch)
    torch.manual_seed(0)
    got = nets.gradient(network, x, chain)
    assert network.route.name == "step-by-step", name
    assert network.route.reason
    torch.manual_seed(0)
    expected = nets.gradient(network, x, chain, "step-by-step")
    if name != "random scale":
        assert nets.relative(got, expected) < 1e-10
    with pytest.raises(ValueError, match="gradient_route='collapsed' cannot be taken"):
        nets.gradient(network, x, chain, "collapsed")


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_what_is_affine_is_collapsed(name, batch):
    network = nets.build(time_steps=4, extra=EXACT[name].double().eval())
    x = nets.image(1, batch)
    got = nets.gradient(network, x, HART(0.8))
    if name == "buffer":  # detached on the way: refused, rightly or not, and so exact
        assert network.route.name == "step-by-step"
    else:
        assert network.route.name == "collapsed", network.route.reason
    assert nets.relative(got, nets.gradient(network, x, HART(0.8), "step-by-step")) < 1e-10


@pytest.mark.parametrize("chain", [HART(), RGA(), BPTR(), Rate(), Mixed([HART(), RGA()])], ids=repr)
def test_max_pool_network_agrees_with_its_definition(chain):
    network = nets.build(time_steps=4, extra=nn.MaxPool2d(3, 1, 1))
    x = nets.image(2)
    got = nets.gradient(network, x, chain)
    total = torch.zeros_like(x)
    for weight, part in chain.parts():
        total += weight * nets.gradient(network, x, part, "step-by-step")
    assert nets.relative(got, total) < 1e-10


@pytest.mark.parametrize("name", ["relu in a side branch", "convolution"])
@pytest.mark.parametrize("chain", [HART(0.8), STBP()], ids=["HART", "STBP"])
def test_compiled_parts_of_a_body_are_seen_and_run_like_any_other(name, chain):
    part = (INEXACT | EXACT)[name].double()
    plain = nets.build(time_steps=4, extra=part)
    compiled = nets.build(time_steps=4, extra=torch.compile(part, backend="aot_eager"))
    for batch in (1, 3, 4):
        x = nets.image(1, batch)
        assert torch.equal(nets.gradient(compiled, x, chain), nets.gradient(plain, x, chain))
        assert compiled.route == plain.route
        assert torch.equal(compiled(x), plain(x))


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm2d(4)], ids=["dropout", "batch norm"])
def test_layers_in_training_mode_take_the_step_by_step_route(layer):
    network = nets.build(time_steps=4, extra=layer.double())
    x = nets.image(3)
    nets.gradient(network, x, HART())
    assert network.route.name == "collapsed"
    layer.train()
    nets.gradient(network, x, HART())
    assert network.route.name == "step-by-step"
    layer.eval()
    nets.gradient(network, x, HART())
    assert network.route.name == "collapsed"


class TwiceHART(HART):
    """A chain that changes the definition of another, whose gain is not its own."""

    def backward(self, grad_spikes, trace):
        return 2 * super().backward(grad_spikes, trace)


class HalfHART(TwiceHART):
    def gain(self, trace):
        return 2 * super().gain(trace)


def test_a_gain_counts_only_with_the_definition_it_came_with():
    network, x = nets.build(), nets.image(1)
    for chain, route in ((TwiceHART(), "step-by-step"), (HalfHART(), "collapsed")):
        got = nets.gradient(network, x, chain)
        assert network.route.name == route
        assert nets.relative(got, nets.gradient(network, x, chain, "step-by-step")) < 1e-10


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.ones(()))

    def forward(self, x):
        self.count.mul_(1.5)
        return x


def test_an_attack_leaves_buffers_and_the_random_state_alone_also_in_evaluation():
    counts = Counts()
    network = nets.build(extra=counts)
    network.body.append(Call(lambda x: x + 0 * torch.rand(1, dtype=x.dtype)))
    network.eval()
    before = torch.get_rng_state()
    for chain in (HART(), STBP()):
        nets.gradient(network, nets.image(1), chain)
        assert counts.count == 1.0
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", ["mode", "weights"])
def test_a_network_that_changed_before_its_backward_pass_is_refused(change):
    network = nets.build()
    network.chain, network.memory_bound = STBP(), 1
    loss = network(nets.image(1).requires_grad_()).sum()
    if change == "mode":
        network.train()
    else:
        with torch.no_grad():
            next(network.parameters()).mul_(0.5)
    with pytest.raises(RuntimeError, match="changed between its forward and backward pass"):
        loss.backward()


@pytest.mark.parametrize("chain", [STBP(), Mixed()], ids=["STBP", "Mixed"])
def test_a_chunked_gradient_keeps_the_precision_of_its_forward_pass(chain):
    gradients = []
    for bound in (2 << 30, 1):
        network = nets.build().float()
        network.chain, network.memory_bound = chain, bound
        x = nets.image(1).float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        gradients.append(torch.autograd.grad(logits.square().sum(), x)[0])
    assert nets.relative(gradients[1], gradients[0]) < 1e-2


def test_a_refusal_is_said_once_at_info(caplog):
    network = nets.build(extra=nn.MaxPool2d(3, 1, 1))
    with caplog.at_level(logging.INFO, logger="art_snn"):
        for _ in range(3):
            nets.gradient(network, nets.image(0), HART())
    assert len(caplog.records) == 1
    assert "max_pool2d" in caplog.text


def test_stbp_cannot_be_forced_to_collapse():
    with pytest.raises(ValueError, match="STBP has no time-independent gain"):
        nets.gradient(nets.build(), nets.image(0), STBP(), "collapsed")


def test_mixture_with_stbp_names_the_route_and_its_reason():
    network = nets.build()
    nets.gradient(network, nets.image(0), Mixed())
    assert network.route.name == "step-by-step"
    assert "STBP" in network.route.reason


def test_a_user_module_in_the_body_that_goes_round_the_first_neurons():
    """Direct encoding with a skip around the first spiking layer: nothing may run once that must run T times."""
    body = nn.Sequential(nets.Residual(LIF()), nn.Flatten(), nn.Linear(72, 3))
    network = SpikingNetwork(body, 4).double().eval()
    x = 3 * nets.image(5)
    assert nets.relative(nets.gradient(network, x, HART()), nets.gradient(network, x, HART(), "step-by-step")) < 1e-10


def test_non_affine_layers_before_the_first_neurons_are_found_too():
    network = nets.build(time_steps=4, encoder=EventFrames())
    network.body.insert(0, nn.ReLU())
    x = nets.recording(0, 4) - 1.0
    got = nets.gradient(network, x, HART())
    assert network.route.name == "step-by-step"
    assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) < 1e-10


def test_several_backward_calls_and_double_use_of_the_logits():
    network = nets.build()
    network.chain = HART(0.7)
    x = nets.image(4).requires_grad_()
    logits = network(x)
    (first,) = torch.autograd.grad(logits[:, 0].sum(), x, retain_graph=True)
    (second,) = torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad(logits[:, 0].sum(), x, retain_graph=True)
    (both,) = torch.autograd.grad((logits[:, 0] + logits[:, 1]).sum() + (logits * 0).sum(), x)
    assert torch.equal(first, again)
    assert nets.relative(both, first + second) < 1e-12


def test_second_derivatives_are_refused():
    network = nets.build()
    x = nets.image(4).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(network(x).sum(), x, create_graph=True)


def test_no_grad_and_inference_mode_give_the_network_itself():
    network = nets.build()
    x = nets.image(4).requires_grad_()
    expected = network(x).detach()
    with torch.no_grad():
        assert torch.equal(network(x), expected) and not network(x).requires_grad
    with torch.inference_mode():
        assert torch.equal(network(x), expected)


class Sometimes(nn.Module):
    """One more spiking layer, in batches of some sizes."""

    def __init__(self, spikes) -> None:
        super().__init__()
        self.neurons, self.spikes = LIF(), spikes

    def forward(self, x):
        return self.spikes(self.neurons, x)


def test_numbers_are_compared_up_to_the_output():
    network = nets.build(time_steps=4)
    network.body.append(Call(lambda x: x * (0.5 + 2.0 / len(x))))
    x = nets.image(1)
    got = nets.gradient(network, x, HART())
    assert network.route.reason.startswith("the output is not its mean over time")
    assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) == 0.0


@pytest.mark.parametrize("before", [1, 2, 5])
def test_numbers_are_compared_at_the_first_gradient_that_may_be_collapsed(before):
    """However many there were before that nobody would collapse."""
    network = nets.build(time_steps=4)
    network.body.append(Call(lambda x: x * (0.5 + 2.0 / len(x))))
    x = nets.image(1)
    for _ in range(before):
        nets.gradient(network, x, STBP())
    got = nets.gradient(network, x, HART())
    assert network.route.reason.startswith("the output is not its mean over time")
    assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) == 0.0


def test_numbers_are_compared_at_every_batch_size():
    network = nets.build(time_steps=4, extra=Call(lambda x: x if len(x) > 16 else 2.0 * x))
    for batch, route in ((2, "collapsed"), (8, "step-by-step")):
        x = nets.image(1, batch)
        got = nets.gradient(network, x, HART())
        assert network.route.name == route
        assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) < 1e-10


def test_samples_that_show_nothing_decide_nothing():
    layers = (nn.Conv2d(2, 4, 3, padding=1, bias=False), LIF(), nn.Conv2d(4, 4, 1, bias=False), LIF())
    body = nn.Sequential(Call(lambda x: 2 * x * (0.5 + 2 / len(x))), *layers, nn.Flatten(), nn.Linear(144, 3))
    network = SpikingNetwork(body, 4, EventFrames()).double().eval()
    x = 3 * nets.recording(0, 4)
    nets.gradient(network, torch.zeros_like(x), HART())
    got = nets.gradient(network, x, HART())
    assert network.route.name == "step-by-step"
    assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) == 0.0


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize(
    "spikes",
    [
        lambda layer, x: layer(x) if len(x) < 10 else x,
        lambda layer, x: layer(x) if len(x) >= 10 else x,
        lambda layer, x: x + layer(x[:, :, :2]).mean() if len(x) >= 10 else x,
    ],
    ids=["in small batches", "in large batches", "of a part"],
)
def test_layers_that_run_at_some_batch_sizes_are_crossed_as_they_ran(spikes, batch):
    network = nets.build(time_steps=5, extra=Sometimes(spikes))
    x = nets.image(1, batch)
    got = nets.gradient(network, x, HART())
    assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) < 1e-10


def test_currents_that_cancel_over_time_are_compared_by_their_size_at_a_step():
    x = torch.randn(8, 10, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    body = nn.Sequential(nn.Linear(20, 30, bias=False), LIF(), nn.Linear(30, 4))
    network = SpikingNetwork(body, 10, EventFrames()).double().eval()
    got = nets.gradient(network, x, HART(), "collapsed")
    assert nets.relative(got, nets.gradient(network, x, HART(), "step-by-step")) < 1e-10


def test_a_sample_that_is_no_number_leaves_the_others_their_route():
    network, x = nets.build(), nets.image(1)
    broken = x.clone()
    broken[0] = torch.nan
    expected = nets.gradient(network, x, HART())
    for image in (broken, x):
        got = nets.gradient(network, image, HART())
        assert network.route.name == "collapsed"
        assert nets.relative(got[1:], expected[1:]) < 1e-10
