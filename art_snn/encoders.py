"""How an input becomes one frame per time step: what the network sees, differentiable in the input."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_snn.randomness import mixed_seed

#: How far beyond [0, 1] a value may be by rounding.
ROUNDING = 1e-5


class Encoder(nn.Module):
    """From an input `(B, ...)` to frames `(T, B, ...)`."""

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        """
        :param x: Input `(B, ...)`.
        :param time_steps: Number of time steps T.
        :return: Frames `(T, B, ...)`, differentiable in `x`; where all are the same, expanded from one, so that the
            layers before the first spiking layer need run once.
        """
        raise NotImplementedError

    def check(self, shape: tuple[int, ...], time_steps: int) -> None:
        """
        :param shape: Shape of an input, batch first.
        :param time_steps: Number of time steps T.
        :raises ValueError: If the encoder cannot take it.
        """


class DirectEncoder(Encoder):
    """Direct encoding: the image itself is the input current at every time step."""

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        return x.unsqueeze(0).expand(time_steps, *x.shape)


class PoissonEncoder(Encoder):
    """Poisson encoding: at each step a pixel fires with a probability equal to its value in [0, 1].

    s(t) = [x >= u(t)] with u(t) uniform in [0, 1); the gradient passes straight through, ds(t)/dx = 1. Values beyond
    [0, 1] are an error. Noise is fresh at every call, from a generator of the encoder's own (the global random state is
    never touched), until it is frozen: then every call, and every sample of a batch, sees the same noise, so that one
    noise sample serves a whole attack and a sample's gradient does not depend on its batch.

    :param seed: Seed of the noise; one is drawn from the operating system when not given. Read it back as `seed`.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise ValueError(f"seed must be a non-negative integer or None, got {seed!r}.")
        self.seed = secrets.randbits(32) if seed is None else seed
        self.draws = 0
        self._noise: Tensor | None = None
        self._frozen_draw: int | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether every call sees the same noise."""
        return self._frozen_draw is not None or self._noise is not None

    def freeze(self, noise: Tensor | None = None) -> None:
        """Use one noise sample from now on.

        :param noise: The uniform numbers u, shape `(T, B, ...)` or `(T, 1, ...)`; the next draw when not given.
        """
        if noise is not None and not (isinstance(noise, Tensor) and noise.dim() >= 2 and noise.is_floating_point()):
            raise ValueError("noise must be a floating-point tensor of shape (T, B, ...) or (T, 1, ...).")
        self._noise = noise
        if noise is None:
            self._frozen_draw, self.draws = self.draws, self.draws + 1

    def unfreeze(self) -> None:
        """Draw fresh noise at every call again."""
        self._noise = self._frozen_draw = None

    @contextmanager
    def frozen(self, noise: Tensor | None = None) -> Iterator[PoissonEncoder]:
        """:meth:`freeze` for the length of a `with` block.

        :param noise: As for :meth:`freeze`.
        """
        self.freeze(noise)
        try:
            yield self
        finally:
            self.unfreeze()

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        low, high = (float(value) for value in x.detach().aminmax())
        if low < -ROUNDING or high > 1.0 + ROUNDING:
            raise ValueError(
                f"PoissonEncoder takes values in [0, 1], which are firing probabilities, got {low:g} to {high:g}: "
                "normalise inside the network (models do), not by preprocessing."
            )
        spikes = (x.detach() >= self._uniform(x, time_steps)).to(x.dtype)
        return spikes + (x - x.detach())  # exactly the spikes, with the identity's gradient

    def _uniform(self, x: Tensor, time_steps: int) -> Tensor:
        if self._noise is not None:
            noise = self._noise.to(device=x.device, dtype=x.dtype)
            if noise.shape[0] != time_steps or noise.shape[1] not in (1, len(x)) or noise.shape[2:] != x.shape[1:]:
                raise ValueError(
                    f"the frozen noise has shape {tuple(noise.shape)}, expected "
                    f"{(time_steps, len(x), *x.shape[1:])} or {(time_steps, 1, *x.shape[1:])}."
                )
            return noise
        if self._frozen_draw is not None:
            return self._draw(self._frozen_draw, x, (time_steps, 1, *x.shape[1:]))
        self.draws += 1
        return self._draw(self.draws - 1, x, (time_steps, *x.shape))

    def _draw(self, index: int, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        # One generator a draw: its state is two integers, which copy and pickle with the network.
        generator = torch.Generator(device=x.device).manual_seed(mixed_seed(self.seed, index))
        return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)

    def extra_repr(self) -> str:
        return f"seed={self.seed}" + (", frozen" if self.is_frozen else "")


class MedianEncoder(Encoder):
    """Direct encoding of the image after a median filter of 3 x 3 pixels, a defence.

    See Hao et al. (ICLR 2024), Table A3. The image is mirrored at its edges. The gradient of a pixel goes to the one
    that is its median.
    """

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        windows = padded.unfold(-2, 3, 1).unfold(-2, 3, 1).flatten(-2)
        return windows.median(-1).values.unsqueeze(0).expand(time_steps, *x.shape)

    def check(self, shape: tuple[int, ...], time_steps: int) -> None:
        if len(shape) != 4 or min(shape[-2:]) < 2:
            raise ValueError(f"x must hold images (B, C, H, W) of at least 2 x 2 pixels, got shape {tuple(shape)}.")


class EventFrames(Encoder):
    """Event frames `(B, T, P, H, W)`, one frame a time step (P polarities).

    :param same_gradient: Whether each frame of a recording has the same gradient, the mean of its frames', as in the
        attacks of Hao et al. (ICLR 2024, A.2.5). The frames themselves are as they are.
    """

    def __init__(self, same_gradient: bool = False) -> None:
        super().__init__()
        self.same_gradient = same_gradient

    def forward(self, x: Tensor, time_steps: int) -> Tensor:
        return (_SameGradient.apply(x) if self.same_gradient else x).transpose(0, 1)

    def check(self, shape: tuple[int, ...], time_steps: int) -> None:
        if len(shape) < 3 or shape[1] != time_steps:
            raise ValueError(
                f"x must hold one event frame per time step, shape (B, {time_steps}, ...), got {tuple(shape)}."
            )


class _SameGradient(torch.autograd.Function):
    """The identity, whose gradient is the mean over the frames, for each of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].mean(1, keepdim=True).expand_as(grads[0])


#: Encoders of images that have a name for settings and files.
NAMES = ("direct", "poisson", "median")


def named(name: str, seed: int | None = None) -> Encoder:
    """
    :param name: One of :data:`NAMES`.
    :param seed: Seed of noise, if it has some.
    :return: The encoder.
    """
    return PoissonEncoder(seed) if name == "poisson" else {"direct": DirectEncoder, "median": MedianEncoder}[name]()
