"""The loop that gradient attacks of our own share: along the chain, step by step, inside a ball around the input.

What every such attack wants is here, and a subclass gives only the step:

- a sample whose gradient is zero stays where it is, and is never NaN;
- every iterate counts that fools, as the classifier itself predicts, and the sample leaves the batch then; of samples
  that nothing fools, the iterate with the largest margin is returned;
- where a random start, or noise of the attack, comes in, it belongs to the sample and the seed, so that a sample's
  result does not depend on which others are attacked with it (but for how a device rounds batches of different sizes);
- a chain with state keeps it for one start, aligned with the samples that are left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.summary_writer import SummaryWriter
from torch import Tensor
from tqdm.auto import tqdm

from art_snn.attacks.checks import check_eps, check_whole, class_indices
from art_snn.attacks.gradient import check_outputs, logits, logits_and_gradient
from art_snn.attacks.losses import LOSSES, margin
from art_snn.chains.state import Run
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.randomness import mixed_seed

#: What an attack keeps of each sample from step to step: tensors `(B, ...)`.
Memory = tuple[Tensor, ...]


class SteppedAttack(EvasionAttack):
    """A gradient attack in steps.

    :param estimator: ART's PyTorch classifier; the gradient of a spiking one follows its chain.
    :param norm: Norm of the ball: `numpy.inf` or `"inf"`, or 2.
    :param eps: Its radius ε > 0, on the data's scale.
    :param max_iter: Steps of one start, >= 1; each is one gradient.
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

    def begin(self, x: Tensor) -> Memory:
        """
        :param x: Inputs `(B, ...)`.
        :return: What the attack keeps of each sample, before the first step.
        """
        raise NotImplementedError

    def step(self, grad: Tensor, memory: Memory, number: int) -> tuple[Tensor, Memory]:
        """
        :param grad: Gradient of the loss to be made large, `(B, ...)`, finite.
        :param memory: What was kept.
        :param number: Number of the step, from 0.
        :return: By how much the samples move, before they are projected, and what is kept now.
        """
        raise NotImplementedError

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
        total = len(starts) * self.nb_random_init * self.max_iter
        with tqdm(total=total, desc=type(self).__name__, disable=not self.verbose, leave=False) as bar:
            for start in starts:
                part = slice(start, start + self.batch_size)
                found[part] = self._attack(found[part], labels[part], samples[part], seed, bar)
        return found

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
                bar.update(self.max_iter)
        return best.x.cpu().numpy()

    def _start(self, clean: Tensor, labels: Tensor, left: Tensor, seeds: Sequence[int], best: Best, bar: Any) -> None:
        """One start of the samples that are left, which are places in the batch."""
        here = clean[left]
        x, memory = self._project(here + self._random(here, seeds), here), self.begin(here)
        active = torch.arange(len(left), device=clean.device)  # places in `left`
        with self._run() as run:
            for number in range(self.max_iter):
                rows = self._rows(active, len(left))
                if number and run is not None:
                    run.only(rows)
                found, grad = self._gradient(x[rows], labels[left[rows]])
                self._look(best, left, rows, x, labels, found)
                moved, now = self.step(
                    torch.nan_to_num(grad, 0.0, 0.0, 0.0), tuple(part[rows] for part in memory), number
                )
                memory = tuple(old.index_copy(0, rows, new) for old, new in zip(memory, now, strict=True))
                x = x.index_copy(0, rows, self._project(x[rows] + moved, here[rows]))
                if self.until_fooled:
                    active = active[~best.fooled[left[active]]]
                bar.update(1)
                if not len(active):
                    bar.update(self.max_iter - 1 - number)
                    return
        self._look(best, left, active, x, labels, logits(self.estimator, x[active]))

    def _look(self, best: Best, left: Tensor, rows: Tensor, x: Tensor, labels: Tensor, found: Tensor) -> None:
        """Keep what is better among some iterates; what seems to fool is predicted, and counts if that says so too."""
        places = left[rows]
        ahead, fools = self._progress(found, labels[places])
        fools &= ~best.fooled[places]
        if bool(fools.any()):
            ahead[fools], sure = self._progress(logits(self.estimator, x[rows[fools]]), labels[places[fools]])
            fools[fools.clone()] = sure
        best.take(places, x[rows], ahead, fools)

    def _progress(self, found: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How far some samples are beyond being fooled, and which are."""
        ahead = margin(found, labels)
        wrong = found.argmax(1) != labels
        return (-ahead, ~wrong) if self.targeted else (ahead, wrong)

    def _gradient(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        objective = LOSSES[self.loss_type]
        return logits_and_gradient(
            self.estimator, x, labels, objective.targeted if self.targeted else objective.untargeted
        )

    @contextmanager
    def _run(self) -> Iterator[Run | None]:
        """The state of the chain, if it is one with state, over one start."""
        chain = self.estimator.chain if isinstance(self.estimator, PyTorchSNNClassifier) else None
        if chain is None or not any(part.has_state for _, part in chain.parts()):
            yield None
            return
        with chain.run() as run:
            yield run

    def _rows(self, active: Tensor, number: int) -> Tensor:
        """The samples of the next gradient: those that are left, and others to make up one of few sizes, since what a
        network claims is compared anew at every size of a batch."""
        size = min(number, _ladder(len(active)))
        if size == len(active):
            return active
        others = torch.ones(number, dtype=torch.bool, device=active.device)
        others[active] = False
        return torch.cat([active, others.nonzero().flatten()[: size - len(active)]])

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
        :param fools: Which fool for the first time `(b,)`.
        """
        ahead = ahead.to(self.margin.dtype)
        # Of iterates that fool and such that do not the former is better, whatever rounding makes of a margin.
        better = fools | ((ahead > self.margin[places]) & ~self.fooled[places])
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


def _ladder(number: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24 ... that is at least a number."""
    power = 1 << max(0, number - 1).bit_length()
    return power * 3 // 4 if power >= 4 and number <= power * 3 // 4 else power
