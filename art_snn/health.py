"""Can an attack move every sample? A gradient that is zero, or no number, leaves it where it is, and says nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GradientHealth:
    """How many samples of a batch one gradient could move.

    :param chain: The chain that the gradient followed.
    :param samples: Samples of the batch.
    :param zero: Those whose gradient is zero everywhere.
    :param without_loss: Those of them for which the loss had no gradient at the logits: it is flat there.
    :param not_finite: Those whose gradient holds NaN or infinity.
    :param silent: Names of the spiking layers that fired at no time step for one of those that the network itself kept
        from moving (a few of them are looked at).
    """

    chain: str
    samples: int
    zero: int
    without_loss: int
    not_finite: int
    silent: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the samples that the gradient cannot move, from 0 to 1."""
        return (self.zero + self.not_finite) / self.samples

    def __str__(self) -> str:
        text = (
            f"along {self.chain} the gradient of {self.zero + self.not_finite} of {self.samples} samples "
            f"({self.share:.1%}) is zero ({self.zero}, for {self.without_loss} of them the loss's own) or not finite "
            f"({self.not_finite})"
        )
        return text + (f"; {', '.join(self.silent)} never fired for some of them" if self.silent else "")


def stuck(grad: Tensor) -> tuple[Tensor, Tensor]:
    """
    :param grad: Gradients `(B, ...)`.
    :return: Which samples' gradients are zero everywhere, and which are not finite, both `(B,)`.
    """
    largest = grad.flatten(1).abs().amax(1)  # NaN wins
    return largest == 0, ~torch.isfinite(largest)
