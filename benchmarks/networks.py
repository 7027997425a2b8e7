"""The networks that are measured, here and in other libraries, with the same weights."""

from __future__ import annotations

import importlib.util

import torch
from torch import nn

from art_snn import LIF, SpikingNetwork, models

NETWORKS = {"vgg11": models.vgg11, "resnet17": models.resnet17}


def build(name: str, time_steps: int, width: float = 1.0) -> SpikingNetwork:
    """
    :param name: `"vgg11"` or `"resnet17"`, on inputs (3, 32, 32) with ten classes.
    :param time_steps: T.
    :param width: Factor on the channels.
    :return: The network in evaluation mode, its weights set so that every layer fires.
    """
    torch.manual_seed(0)
    network = NETWORKS[name](time_steps=time_steps, width=width)
    make_it_fire(network, torch.rand(8, 3, 32, 32))
    return network.eval()


@torch.no_grad()
def make_it_fire(network: SpikingNetwork, x: torch.Tensor) -> None:
    """Set batch norms and hidden linear layers so that currents have mean 0.3 and deviation 1 on `x`.

    :param network: The network.
    :param x: Inputs.
    """
    modules = [
        module for module in network.body.modules() if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Linear))
    ]
    handles = []
    for module in modules[:-1]:
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(_standardise))
        else:
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 0.3)
            module.momentum = 1.0
    network.train()
    network(x)
    for handle in handles:
        handle.remove()


def _standardise(module: nn.Linear, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    mean, deviation = output.mean(), output.std().clamp(min=1e-6)
    module.weight.div_(deviation)
    if module.bias is not None:
        module.bias.sub_(mean).div_(deviation).add_(0.3)
    return (output - mean) / deviation + 0.3


def firing_rates(network: SpikingNetwork, x: torch.Tensor) -> list[float]:
    """
    :param network: The network.
    :param x: Inputs.
    :return: Mean firing rate of every spiking layer.
    """
    rates: list[float] = []
    handles = [
        module.register_forward_hook(lambda module, args, output: rates.append(float(output.mean())))
        for module in network.modules()
        if isinstance(module, LIF)
    ]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return rates


def installed(library: str) -> bool:
    """
    :param library: Name of a module.
    :return: Whether it can be imported.
    """
    return importlib.util.find_spec(library) is not None


class SpikingJelly(nn.Module):
    """The same network in SpikingJelly 2: multi-step mode, with the kernels it chooses for the device itself.

    :param network: The network whose layers and weights are shared.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        super().__init__()
        self.time_steps, self.functional = network.time_steps, functional

        def neurons(lif: LIF) -> nn.Module:
            return neuron.LIFNode(
                tau=1.0 / (1.0 - lif.decay),
                decay_input=False,
                v_threshold=lif.threshold,
                v_reset=0.0,
                surrogate_function=surrogate.ATan(),
                detach_reset=False,
                step_mode="m",
            )

        self.body = _converted(network.body, neurons, wrap=layer.SeqToANNContainer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.functional.reset_net(self)
        return self.body(x.unsqueeze(0).repeat(self.time_steps, 1, 1, 1, 1)).mean(0)


class SnnTorch(nn.Module):
    """The same network in snnTorch: a loop over time, `Leaky` neurons with a reset to zero in the same step.

    :param network: The network whose layers and weights are shared.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        import snntorch
        from snntorch import utils

        super().__init__()
        self.time_steps, self.utils = network.time_steps, utils

        def neurons(lif: LIF) -> nn.Module:
            return snntorch.Leaky(
                beta=lif.decay, threshold=lif.threshold, reset_mechanism="zero", reset_delay=False, init_hidden=True
            )

        self.body = _converted(network.body, neurons, wrap=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.utils.reset(self.body)
        return torch.stack([self.body(x) for _ in range(self.time_steps)]).mean(0)


def _converted(module: nn.Module, neurons, wrap) -> nn.Module:
    """The same tree of modules with other neurons; layers between neurons wrapped for another library's layout."""
    if isinstance(module, LIF):
        return neurons(module)
    if not any(isinstance(inner, LIF) for inner in module.modules()):
        return module if wrap is None else wrap(module)
    if type(module) is nn.Sequential:
        return nn.Sequential(*(_converted(child, neurons, wrap) for child in module))
    twin = _shallow(module)
    for name, child in module.named_children():
        setattr(twin, name, _converted(child, neurons, wrap))
    return twin


def _shallow(module: nn.Module) -> nn.Module:
    """A copy of a module that shares its parameters, with a children's dictionary of its own."""
    twin = module.__class__.__new__(module.__class__)
    twin.__dict__.update(module.__dict__)
    twin._modules = dict(module._modules)
    return twin
