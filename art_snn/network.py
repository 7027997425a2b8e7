"""A spiking network: encode the input, simulate the body for T steps, read out the mean of its output over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from art_snn.chains import STBP, BackwardChain, get_chain
from art_snn.encoders import DirectEncoder, Encoder
from art_snn.engine.chunk import simulate_in_chunks
from art_snn.engine.isolate import check_weights, own_randomness
from art_snn.engine.layout import Layout, checked_output
from art_snn.engine.problem import Route, Seen
from art_snn.engine.route import AttackGradient, sharing
from art_snn.engine.weights import logits_for_training
from art_snn.health import GradientHealth
from art_snn.neurons import SpikingLayer, Visitor, visiting
from art_snn.randomness import Randomness

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
    #: Time is merged into the batch, all the way through the body.
    layout = Layout.MERGED
    #: Whether it has a gradient of another library's.
    has_native = False
    #: Whether the body goes through the time steps itself.
    steps_inside = False

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
        self._check_body(body)
        check_time_steps(time_steps)
        encoder = DirectEncoder() if encoder is None else encoder
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be an art_snn.encoders.Encoder, got {type(encoder).__name__}.")
        self.encoder = encoder
        self.body = body
        self.time_steps = time_steps
        self.chain = chain
        self.gradient_route = "auto"
        self.training_chain = STBP()
        self.randomness = Randomness(torch.initial_seed())
        #: What the engine saw of it: how the last gradient was taken, what was refused before.
        self.seen = Seen()
        self._attacked = False

    def _check_body(self, body: nn.Module) -> None:
        if not any(isinstance(module, SpikingLayer) for module in body.modules()):
            raise ValueError(
                "body has no spiking layer (art_snn.LIF, art_snn.IF): it is not a spiking network. A network of "
                "another library, or with a neuron class of its own, comes in by art_snn.adapt."
            )

    @property
    def route(self) -> Route | None:
        """How the last gradient was taken, and why; None before the first."""
        return self.seen.route

    @property
    def health(self) -> GradientHealth | None:
        """How many samples the last gradient could move; None before the first."""
        return self.seen.health

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
        without = [type(part).__name__ for _, part in chain.parts() if part.stands_apart]
        if without and not (chain.is_native and self.has_native):
            raise ValueError(f"training_chain must follow the simulation, which {without[0]} does not.")
        state = [type(part).__name__ for _, part in chain.parts() if part.has_state]
        if state:
            raise ValueError(f"training_chain must have no state, which {state[0]} keeps over one attack's gradients.")
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
        if bool(finite.all()):
            return self._logits(x)
        if any(module.training for module in self.modules()):  # batch statistics carry it to all
            return self._logits(x) * torch.nan
        blank = x.masked_fill(~finite.reshape(-1, *[1] * (x.dim() - 1)), 0.0)
        return self._logits(blank).masked_fill(~finite, torch.nan)  # neurons' comparisons would make numbers of NaN

    def _logits(self, x: Tensor) -> Tensor:
        graph = torch.is_grad_enabled()
        trains = self.training and not self._attacked
        if not trains:
            check_weights(self)
            if graph and x.requires_grad:
                return AttackGradient.apply(x, self, self.chain)
        with nullcontext() if trains else own_randomness(self):
            if graph and (x.requires_grad or any(p.requires_grad for p in self.parameters())):
                frames, chain = self.frames(x), self.training_chain
                return self.native(frames) if chain.is_native else logits_for_training(self, frames, chain)
            return self._predicted(self.frames(x))

    def _predicted(self, frames: Tensor) -> Tensor:
        return simulate_in_chunks(self, frames).logits

    def native(self, frames: Tensor) -> Tensor:
        """
        :param frames: Frames `(T, B, ...)`.
        :return: Logits `(B, K)`, differentiable by the network's own autograd.
        :raises ValueError: This network has none; :func:`art_snn.adapt` gives one that has.
        """
        raise ValueError(
            "chain 'native' is the gradient of another library's autograd, which only a network of art_snn.adapt has."
        )

    @contextmanager
    def attacked(self) -> Iterator[None]:
        """Inside the block a forward pass whose input requires a gradient follows `chain`, in training mode too."""
        before, self._attacked = self._attacked, True
        try:
            yield
        finally:
            self._attacked = before

    def sharing(self, chains: Sequence[BackwardChain | str]) -> AbstractContextManager[None]:
        """Inside the block attacks' gradients along these chains, at the input that comes first, share a simulation.

        It is kept meanwhile, with its noise, if the encoder draws some. In units of a pass over one step, a chain with
        a gain then costs 2, the simulation T. At other inputs each gradient has its own.

        :param chains: The chains, or their names.
        :return: The block.
        """
        return sharing(self, [get_chain(chain) for chain in chains])

    @property
    def draws(self) -> int:
        """How many passes drew something at random, in the encoder or in the body."""
        return self.randomness.draws + getattr(self.encoder, "draws", 0)

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

    def once(self, frame: Tensor, visitor: Visitor) -> Tensor:
        """Run the body at batch B.

        :param frame: One frame `(B, ...)`.
        :param visitor: What happens at the spiking layers.
        :return: The body's output.
        """
        with visiting(visitor):
            return self.body(frame)

    @property
    def neuron_modules(self) -> set[nn.Module]:
        """The modules of the body that are spiking layers."""
        return {module for module in self.body.modules() if isinstance(module, SpikingLayer)}

    def tapped(self, module: nn.Module) -> SpikingNetwork:
        """
        :param module: A module inside the body, or the body.
        :return: This network in evaluation mode, with the module's output, averaged over time and flat, for logits;
            its `tapped_shape` gives that its shape back. What it draws at random are this network's draws.
        """
        network = SpikingNetwork(_Tap(self.body, module), self.time_steps, self.encoder, self.chain)
        network.gradient_route, network.memory_bound = self.gradient_route, self.memory_bound
        network.training, network.randomness = False, self.randomness
        return network

    def tapped_shape(self, values: Tensor) -> Tensor:
        """
        :param values: What a network of :meth:`tapped` gave, `(B, ...)`.
        :return: It, in the shape of the module's output.
        """
        return values.reshape(len(values), *self.body.shape)  # type: ignore[misc]

    def _checked(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}.")
        if x.dim() < 2 or len(x) == 0:
            raise ValueError(f"x must hold at least one sample, batch first, got shape {tuple(x.shape)}.")
        self.encoder.check(tuple(x.shape), self.time_steps)
        return x.to(self.dtype)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, chain={self.chain}"


class _Tap(nn.Module):
    """A body that gives the output of one of its modules, flat, instead of its own.

    :param body: The body.
    :param module: The module inside it, or the body itself.
    """

    def __init__(self, body: nn.Module, module: nn.Module) -> None:
        super().__init__()
        self.body, self.module = body, module
        self.shape: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        with self.module.register_forward_hook(lambda _module, _args, output: outputs.append(output)):
            self.body(x)
        if not outputs or not isinstance(outputs[-1], Tensor):
            raise ValueError(f"layer {type(self.module).__name__} does not run, or its output is no tensor.")
        self.shape = tuple(outputs[-1].shape[1:])
        return outputs[-1].flatten(1) if self.shape else outputs[-1].unsqueeze(1)


#: Torch's layers whose result for a sample and a time step is the same wherever in the batch that stands; the package's
#: own say so by an attribute `timeless`.
_TIMELESS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.ReLU, nn.Identity, nn.Upsample, nn.ZeroPad2d),
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
    says_so = vars(type(module)).get("timeless", False)  # the class itself: a subclass may do more
    known = flattens or type(module) is nn.Sequential or type(module) in _TIMELESS or says_so
    return known and not module._forward_pre_hooks and not module._forward_hooks
