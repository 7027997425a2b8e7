"""A spiking network: encode the input, simulate the body for T steps, read out the mean of its output over time."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.chains import CBA, STBP, BackwardChain, get_chain
from art_snn.encoders import DirectEncoder, Encoder
from art_snn.gradients import AttackGradient, Route, Simulate, simulate_in_chunks
from art_snn.neurons import SpikingLayer, Visitor, visiting
from art_snn.normalise import Normalise
from art_snn.rate_training import logits_for_training

logger = logging.getLogger(__name__)

ROUTES = ("auto", "collapsed", "step-by-step")


def check_time_steps(time_steps: int) -> None:
    """
    :raises ValueError: If it is not a number of time steps.
    """
    if isinstance(time_steps, bool) or not isinstance(time_steps, int) or time_steps < 1:
        raise ValueError(f"time_steps must be an integer >= 1, got {time_steps!r}.")


class SpikingNetwork(nn.Module):
    """A body with spiking layers, simulated for T time steps.

    Inside the body time is merged into the batch, `(T*B, ...)`, time first, so that every ordinary torch layer works
    as it is; spiking layers unfold it. The readout is the mean over time of the body's output.

    A forward pass whose input requires a gradient follows `chain`, and reaches the input only. A forward pass whose
    input does not is the network itself, differentiable in its weights by `training_chain`, STBP (γ = 1)
    unless set otherwise.

    :param body: Any torch module with spiking layers inside, from `(T*B, ...)` to `(T*B, K)`.
    :param time_steps: Number of time steps T >= 1.
    :param encoder: How an input becomes frames; direct encoding when not given.
    :param chain: The backward chain, by name or as an object.
    :raises ValueError: If the body has no spiking layer or `time_steps` is below 1.
    """

    #: Bound on activation memory, in bytes: beyond it a batch is simulated in chunks, with the same results.
    memory_bound = 2 << 30

    def __init__(
        self,
        body: nn.Module,
        time_steps: int,
        encoder: Encoder | None = None,
        chain: str | BackwardChain = "hart",
    ) -> None:
        super().__init__()
        if not isinstance(body, nn.Module):
            raise TypeError(f"body must be a torch.nn.Module, got {type(body).__name__}.")
        if not any(isinstance(module, SpikingLayer) for module in body.modules()):
            raise ValueError("body has no spiking layer (art_snn.LIF, art_snn.IF): it is not a spiking network.")
        learns = {type(m).__name__ for m in body.modules() if isinstance(m, SpikingLayer) and list(m.parameters())}
        if learns:
            logger.warning("No chain trains the parameters of spiking layers: those of %s stay as they are.", learns)
        check_time_steps(time_steps)
        encoder = DirectEncoder() if encoder is None else encoder
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be an art_snn.encoders.Encoder, got {type(encoder).__name__}.")
        self.encoder = encoder
        self.body = body
        self.time_steps = time_steps
        self.chain = chain
        self.gradient_route = "auto"
        #: How the last gradient was taken, and why; None before the first.
        self.route: Route | None = None
        self.training_chain = STBP()
        self._refusals: dict[Any, str] = {}
        self._compared: dict[Any, int] = {}
        self._footprints: dict[Any, tuple[int, int]] = {}

    @property
    def chain(self) -> BackwardChain:
        """The backward chain that a forward pass follows if its input requires a gradient."""
        return self._chain

    @chain.setter
    def chain(self, chain: str | BackwardChain) -> None:
        self._chain = get_chain(chain)

    @property
    def training_chain(self) -> BackwardChain:
        """The chain of the weights' gradient, in training: STBP unless set otherwise."""
        return self._training_chain

    @training_chain.setter
    def training_chain(self, chain: str | BackwardChain) -> None:
        chain = get_chain(chain)
        if any(isinstance(part, CBA) for _, part in chain.parts()):
            raise ValueError("training_chain must follow the simulation, which CBA does not: it has another network's.")
        self._training_chain = chain

    @property
    def gradient_route(self) -> str:
        """`"auto"` (collapsed over time where that is exact), or one of `"collapsed"` and `"step-by-step"` to force
        it; forcing a collapse where it is inexact is an error at the next gradient.
        """
        return self._gradient_route

    @gradient_route.setter
    def gradient_route(self, route: str) -> None:
        if route not in ROUTES:
            raise ValueError(f"gradient_route must be one of {ROUTES}, got {route!r}.")
        self._gradient_route = route

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """
        :param x: Images `(B, C, H, W)` or event frames `(B, T, P, H, W)`, as the encoder takes them.
        :return: Logits `(B, K)`.
        :raises ValueError: If the input's shape does not fit.
        """
        x = self._checked(x)
        finite = torch.isfinite(x.detach()).flatten(1).all(1, keepdim=True)
        return self._logits(x).masked_fill(~finite, torch.nan)  # a comparison would make numbers of NaN

    def _logits(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return AttackGradient.apply(x, self)
        frames = self.frames(x)
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            return logits_for_training(self, frames, self.training_chain)
        return simulate_in_chunks(self, frames)[0]

    def frames(self, x: Tensor) -> Tensor:
        """Encode `x`.

        :param x: Input `(B, ...)`.
        :return: Frames `(T, B, ...)`, differentiable in `x`.
        """
        return self.encoder(x, self.time_steps)

    def run(self, frames: Tensor, visitor: Visitor) -> Tensor:
        """Simulate the body on encoded frames and read it out.

        :param frames: Frames `(T, B, ...)`.
        :param visitor: What happens at the spiking layers.
        :return: Logits `(B, K)`.
        """
        time_steps, batch = frames.shape[:2]
        # The layers before the first spiking layer see the same at every step: they run once, not T times.
        once = self.encoder.static and _reaches_neurons_straight(self.body)
        with visiting(visitor):
            out = self.body(frames[0] if once else frames.flatten(0, 1))
        if out.dim() != 2 or len(out) != time_steps * batch:
            raise ValueError(
                f"body must map (T*B, ...) to (T*B, K), here ({time_steps * batch}, K), got {tuple(out.shape)}."
            )
        return out.to(self.dtype).unflatten(0, (time_steps, batch)).mean(0)  # autocast leaves it in half precision

    def footprint(self, frames: Tensor) -> tuple[int, int]:
        """Activation memory per sample, measured once for a shape on a single blank sample.

        :param frames: Encoded frames `(T, B, ...)`; only their shape and type count.
        :return: Bytes of the largest spiking layer's activations over all T steps, and of all spiking layers' together.
        """
        key = (tuple(frames.shape[2:]), len(frames), frames.dtype, self.dtype)
        if key not in self._footprints:
            sizes: list[int] = []

            def measure(layer: SpikingLayer, x: Tensor) -> Tensor:
                spikes = simulate(layer, x)
                sizes.append(spikes.numel() * spikes.element_size())
                return spikes

            simulate = Simulate(len(frames), 1)
            with torch.no_grad():
                self.run(torch.zeros_like(frames[:, :1]), measure)
            self._footprints[key] = (max(sizes), sum(sizes))
        return self._footprints[key]

    def _checked(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}.")
        if x.dim() < 2 or len(x) == 0:
            raise ValueError(f"x must hold at least one sample, batch first, got shape {tuple(x.shape)}.")
        self.encoder.check(tuple(x.shape), self.time_steps)
        return x.to(self.dtype)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, chain={self.chain}"


#: Layers whose result for a sample and a time step is the same wherever in the batch that stands.
_TIMELESS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.ReLU, nn.Identity, nn.Upsample, nn.ZeroPad2d, Normalise),
)


def _reaches_neurons_straight(module: nn.Module) -> bool:
    """Whether only known layers lie between the body and its first spiking layer, and nothing goes round it."""
    if isinstance(module, SpikingLayer):
        return True
    if type(module) is not nn.Sequential or module._forward_pre_hooks or module._forward_hooks:
        return False
    for child in module:
        if any(isinstance(inner, SpikingLayer) for inner in child.modules()):
            return _reaches_neurons_straight(child)
        if not all(_is_timeless(inner) for inner in child.modules()):
            return False
    return False


def _is_timeless(module: nn.Module) -> bool:
    flattens = type(module) is nn.Flatten and module.start_dim == 1
    known = flattens or type(module) is nn.Sequential or type(module) in _TIMELESS
    return known and not module._forward_pre_hooks and not module._forward_hooks
