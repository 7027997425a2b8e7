"""What attacks of our own share, whatever they search by: a ball around each input, batches, starts, and what is kept.

- Every iterate counts that fools, as the classifier itself predicts, and the sample leaves the batch then; of samples
  that nothing fools, the iterate with the largest margin is returned.
- Where a random start, or noise of the attack, comes in, it belongs to the sample and the seed, so that a sample's
  result does not depend on which others are attacked with it (but for how a device rounds batches of different sizes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.summary_writer import SummaryWriter
from torch import Tensor
from tqdm.auto import tqdm

from art_snn.attacks.checks import check_eps, check_whole, class_indices
from art_snn.attacks.gradient import check_outputs
from art_snn.attacks.losses import LOSSES, margin
from art_snn.randomness import mixed_seed


class BallAttack(EvasionAttack):
    """A search in a ball around each input, start after start.

    :param estimator: ART's PyTorch classifier; the gradient of a spiking one follows its chain.
    :param norm: Norm of the ball: `numpy.inf` or `"inf"`, or 2.
    :param eps: Its radius ε > 0, on the data's scale.
    :param max_iter: Steps of one start, >= 1; each is one gradient, or one query.
    :param targeted: Whether `y` are classes that are wanted, rather than true ones.
    :param nb_random_init: Starts, >= 1; only samples that are not fooled start again.
    :param loss_type: `"cross_entropy"`, `"difference_logits_ratio"` (of at least 3 classes, 4 if targeted) or
        `"margin"`.
    :param batch_size: Samples of one batch.
    :param until_fooled: Whether a sample leaves once it is fooled; otherwise all go on to the last step of the last
        start, and the iterate with the largest margin is returned, which is what transfers to another network.
    :param seed: Seed of the starts; drawn from numpy's generator, as ART's attacks do, when not given.
    :param verbose: Whether to show the progress.
    :raises ValueError: If a parameter is out of its range.
    """

    attack_params = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "targeted",
        "nb_random_init",
        "loss_type",
        "batch_size",
        "until_fooled",
        "seed",
        "verbose",
    ]
    _estimator_requirements = (PyTorchClassifier,)
    #: Norms of the ball that it knows.
    norms: tuple[float, ...] = (np.inf, 2)

    def __init__(
        self,
        estimator: PyTorchClassifier,
        *,
        norm: float | str = np.inf,
        eps: float = 8 / 255,
        max_iter: int = 40,
        targeted: bool = False,
        nb_random_init: int = 1,
        loss_type: str = "cross_entropy",
        batch_size: int = 128,
        until_fooled: bool = True,
        seed: int | None = None,
        verbose: bool = True,
        summary_writer: str | bool | SummaryWriter = False,
    ) -> None:
        super().__init__(estimator=estimator, summary_writer=summary_writer)
        self.norm, self.eps, self.max_iter, self._targeted = norm, eps, max_iter, targeted
        self.nb_random_init, self.loss_type, self.batch_size = nb_random_init, loss_type, batch_size
        self.until_fooled, self.seed, self.verbose = until_fooled, seed, verbose
        self._check_params()

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """
        :param x: Inputs `(N, *input_shape)`.
        :param y: Labels, one-hot `(N, K)` or classes `(N,)`: true ones, what the classifier predicts if None; or the
            wanted ones of a targeted attack.
        :param kwargs: `samples`, a number for each input by which its random numbers go; 0 to N - 1 when not given.
        :return: Adversarial inputs, of the shape of `x`.
        :raises ValueError: If `x` or `y` do not fit, or the classifier has fewer classes than the loss needs.
        """
        labels = self._labels(x, y)
        samples = np.asarray(kwargs.pop("samples", np.arange(len(x))), dtype=np.int64)
        if kwargs or samples.shape != (len(x),):
            raise ValueError(f"samples must be {len(x)} whole numbers, got {samples.shape}; unknown: {sorted(kwargs)}.")
        seed = int(np.random.randint(2**31 - 1)) if self.seed is None else self.seed
        found = np.array(x, dtype=np.float32)
        starts = range(0, len(x), self.batch_size)
        total = len(starts) * self.nb_random_init * self.length
        with tqdm(total=total, desc=type(self).__name__, disable=not self.verbose, leave=False) as bar:
            for start in starts:
                part = slice(start, start + self.batch_size)
                found[part] = self._attack(found[part], labels[part], samples[part], seed, bar)
        return found

    @property
    def length(self) -> int:
        """Steps, or queries, of one start, as the progress counts them."""
        return self.max_iter

    def _attack(self, x: np.ndarray, labels: np.ndarray, samples: np.ndarray, seed: int, bar: Any) -> np.ndarray:
        """One batch: all starts, of the samples that are left."""
        device = self.estimator.device
        clean, classes = torch.from_numpy(x).to(device), torch.from_numpy(labels).to(device)
        best = Best(clean)
        for number in range(self.nb_random_init):
            left = (~best.fooled).nonzero().flatten() if self.until_fooled else torch.arange(len(x), device=device)
            if len(left):
                self._start(clean, classes, left, [mixed_seed(seed, number, int(samples[i])) for i in left], best, bar)
            else:
                bar.update(self.length)
        return best.x.cpu().numpy()

    def _start(self, clean: Tensor, labels: Tensor, left: Tensor, seeds: Sequence[int], best: Best, bar: Any) -> None:
        """One start.

        :param clean: Inputs of the batch `(B, ...)`.
        :param labels: Their classes `(B,)`.
        :param left: Places in the batch of the samples that start `(b,)`.
        :param seeds: A seed for each of them.
        :param best: What was found so far; what this start finds goes there.
        :param bar: The progress, `length` of it.
        """
        raise NotImplementedError

    def _progress(self, found: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How far some samples are beyond being fooled, and which are."""
        ahead = margin(found, labels)
        wrong = found.argmax(1) != labels
        return (-ahead, ~wrong) if self.targeted else (ahead, wrong)

    def _random(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """A point of the ball around 0 for each sample, uniform."""
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape, dtype = x.shape[1:], x.dtype
        if self.norm != 2:
            return self.eps * torch.stack([2 * torch.rand(shape, generator=g, dtype=dtype) - 1 for g in draws]).to(x)
        ways = torch.stack([torch.randn(shape, generator=g, dtype=dtype) for g in draws])
        radii = torch.stack([torch.rand((), generator=g, dtype=dtype) ** (1 / math.prod(shape)) for g in draws])
        return (self.eps * each(radii, ways) * unit(ways)).to(x)

    def _project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The nearest point in the ball, and then in the classifier's range."""
        delta = x - clean
        if self.norm == 2:
            length = norm(delta)
            delta = delta * (self.eps / length.clamp(min=self.eps))
        else:
            delta = delta.clamp(-self.eps, self.eps)
        if self.estimator.clip_values is None:
            return clean + delta
        low, high = (
            torch.as_tensor(np.asarray(value), dtype=x.dtype, device=x.device) for value in self.estimator.clip_values
        )
        return torch.minimum(torch.maximum(clean + delta, low), high)

    def _labels(self, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
        classes = self.estimator.nb_classes
        needed = LOSSES[self.loss_type].classes[int(self.targeted)]
        if classes < needed:
            raise ValueError(
                f"loss_type {self.loss_type!r} needs {needed} classes, estimator has {classes}: use 'margin'."
            )
        if y is None:
            if self.targeted:
                raise ValueError("y must be the wanted classes of a targeted attack, got None.")
            y = self.estimator.predict(x, batch_size=self.batch_size)
            check_outputs(y.shape[1])
        return class_indices(y, len(x), classes)

    def _check_params(self) -> None:
        norm = np.inf if self.norm == "inf" else self.norm
        if norm not in self.norms:
            known = " or ".join('numpy.inf, "inf"' if each == np.inf else f"{each:g}" for each in self.norms)
            raise ValueError(f"norm of {type(self).__name__} must be {known}, got {self.norm!r}.")
        self.norm = norm
        check_eps(self.eps)
        for name in ("max_iter", "nb_random_init", "batch_size"):
            check_whole(name, getattr(self, name), 1)
        if self.seed is not None:
            check_whole("seed", self.seed, 0)
        for name in ("targeted", "until_fooled", "verbose"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if self.loss_type not in LOSSES:
            raise ValueError(f"loss_type must be one of {', '.join(LOSSES)}, got {self.loss_type!r}.")


class Best:
    """The best that was found of each sample of a batch.

    :param clean: Inputs `(B, ...)`.
    """

    def __init__(self, clean: Tensor) -> None:
        self.x = clean.clone()
        self.margin = clean.new_full((len(clean),), -torch.inf)
        self.fooled = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)

    def take(self, places: Tensor, x: Tensor, ahead: Tensor, fools: Tensor) -> None:
        """
        :param places: Samples `(b,)`.
        :param x: Iterates of theirs `(b, ...)`.
        :param ahead: Their margins `(b,)`.
        :param fools: Which of them fool `(b,)`.
        """
        ahead, fooled = ahead.to(self.margin.dtype), self.fooled[places]
        # Of iterates that fool and such that do not the former is better, whatever rounding makes of a margin.
        better = (fools & ~fooled) | ((ahead > self.margin[places]) & (fools | ~fooled))
        self.x[places[better]], self.margin[places[better]] = x[better], ahead[better]
        self.fooled[places[fools]] = True


def norm(x: Tensor) -> Tensor:
    """
    :param x: `(B, ...)`.
    :return: Euclidean norm of each sample, which broadcasts against it.
    """
    return each(x.flatten(1).norm(dim=1), x)


def unit(x: Tensor) -> Tensor:
    """
    :param x: `(B, ...)`.
    :return: Each sample by its Euclidean norm; 0 where that is 0.
    """
    length = norm(x)
    return x / torch.where(length > 0, length, torch.ones_like(length))


def each(values: Tensor, like: Tensor) -> Tensor:
    """
    :param values: A number for each sample, `(B,)`.
    :param like: `(B, ...)`.
    :return: The numbers, so that they broadcast against it.
    """
    return values.view(-1, *[1] * (like.dim() - 1))
