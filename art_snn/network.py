"""A spiking network: encode the input, simulate the body for T steps, read out the mean of its output over time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.chains import CBA, STBP, BackwardChain, get_chain
from art_snn.encoders import DirectEncoder, Encoder
from art_snn.gradients import AttackGradient, Refusal, Route, Simulate, checked_output, simulate_in_chunks, version
from art_snn.health import GradientHealth
from art_snn.neurons import SpikingLayer, Visitor, visiting
from art_snn.normalise import Normalise
from art_snn.randomness import Randomness, States
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

    In evaluation mode, a forward pass whose input requires a gradient is an attack's: it follows `chain`, and reaches
    the input only. Every other forward pass is the network itself, differentiable in its weights, and in training mode
    in its input, by `training_chain`, STBP (γ = 1) unless set otherwise. :meth:`attacked` is the attack's view in
    training mode.

    What the body draws at random (dropout that stays on) comes from generators of the network's own but for training,
    fresh at every pass; the global random state is left alone. They begin at torch's seed at construction;
    `network.randomness.reseed(0)` begins anew.

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
        #: How many samples the last gradient could move; None before the first.
        self.health: GradientHealth | None = None
        self.randomness = Randomness(torch.initial_seed())
        self._attacked = self._warned = False
        self._weights: tuple[int, ...] = ()  # their versions, when they were last looked at
        self._refusals: dict[Any, Refusal] = {}
        self._said: set[str] = set()
        self._gradients: dict[Any, int] = {}
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
        differentiable = torch.is_grad_enabled()
        trains = self.training and not self._attacked
        if not trains:
            self.check_weights()
            if differentiable and x.requires_grad:
                return AttackGradient.apply(x, self)
        if differentiable and (x.requires_grad or any(p.requires_grad for p in self.parameters())):
            return logits_for_training(self, self.frames(x), self.training_chain)
        with nullcontext() if trains else self.own_randomness():
            return simulate_in_chunks(self, self.frames(x))[0]

    @contextmanager
    def attacked(self) -> Iterator[None]:
        """Inside the block a forward pass whose input requires a gradient follows `chain`, in training mode too."""
        before, self._attacked = self._attacked, True
        try:
            yield
        finally:
            self._attacked = before

    @contextmanager
    def own_randomness(self, states: States | None = None) -> Iterator[None]:
        """Inside the block torch's global generators are the network's own, on all devices of its weights.

        :param states: As for :meth:`~art_snn.randomness.Randomness.in_force`.
        """
        devices = sorted({p.device for p in self.parameters()}, key=str)
        with self.randomness.in_force(devices, states):
            yield

    @property
    def draws(self) -> int:
        """How many passes drew something at random, in the encoder or in the body."""
        return self.randomness.draws + getattr(self.encoder, "draws", 0)

    def check_weights(self, *, anew: bool = False) -> None:
        """
        :param anew: Whether to look at weights that torch does not know to have changed.
        :raises ValueError: If a weight is NaN or infinite, or a running statistic NaN; the message names its layer.
            Spikes would hide it: comparisons with NaN are false, so that predictions are finite and wrong.
        """
        named = [*self.body.named_parameters(), *self.body.named_buffers()]
        versions = tuple(version(value) for _, value in named)
        if versions == self._weights and not anew:
            return
        for name, value in named:
            if not value.is_floating_point():
                continue
            bad = torch.isnan(value) if not isinstance(value, nn.Parameter) else ~torch.isfinite(value)
            if bool(bad.any()):
                raise ValueError(
                    f"body.{name} holds {int(bad.sum())} of {value.numel()} numbers that are NaN or infinite: "
                    "predictions of spiking layers hide it, and no attack moves."
                )
        self._weights = versions

    def warn_of_health(self) -> None:
        """Say :attr:`health`, once for a network."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "Attacks stand still on some samples: %s. Robustness that is measured so is none. (Said once; "
                "SpikingNetwork.health tells it of every gradient.)",
                self.health,
            )

    def frames(self, x: Tensor) -> Tensor:
        """Encode `x`.

        :param x: Input `(B, ...)`.
        :return: Frames `(T, B, ...)`, differentiable in `x`.
        :raises ValueError: If the encoder gives something else.
        """
        frames = self.encoder(x, self.time_steps)
        if not isinstance(frames, Tensor) or frames.shape[:2] != (self.time_steps, len(x)):
            raise ValueError(
                f"encoder {type(self.encoder).__name__} must give frames ({self.time_steps}, {len(x)}, ...), got "
                f"{tuple(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__}."
            )
        return frames

    def run(self, frames: Tensor, visitor: Visitor) -> Tensor:
        """Simulate the body on encoded frames and read it out.

        :param frames: Frames `(T, B, ...)`.
        :param visitor: What happens at the spiking layers.
        :return: Logits `(B, K)`.
        """
        time_steps, batch = frames.shape[:2]
        # The layers before the first spiking layer see the same at every step: they run once, not T times.
        once = frames.stride(0) == 0 and _reaches_neurons_straight(self.body)
        with visiting(visitor):
            out = checked_output(self.body(frames[0] if once else frames.flatten(0, 1)), time_steps * batch)
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
