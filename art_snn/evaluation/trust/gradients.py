"""Is there a gradient, and does it say the same along each chain?

`zero-gradient`: samples that no step can move, since the network's gradient is zero everywhere or no number, and
spiking layers that never fire. `saturated-loss`: samples whose cross-entropy has no gradient in float32, where the
margin has one. `chains-disagree`: chains whose gradients point nowhere near each other.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from art_snn.attacks.gradient import logits_and_gradient
from art_snn.attacks.losses import cross_entropy, margin
from art_snn.chains import HART, RGA, STBP, BackwardChain
from art_snn.classifier import PyTorchSNNClassifier
from art_snn.evaluation.flag import Flag
from art_snn.evaluation.trust.sample import Sample, percent

#: Share of samples without a gradient: beyond one in a hundred it is no accident of single samples.
STUCK = 0.01

#: Cosine of two gradients from which on they count as pointing the same way: uncorrelated directions of d numbers have
#: 0 ± 1/√d, here d >= 64.
ALIKE = 0.05

#: Share of samples on which two chains may disagree: most of them must not.
DISAGREE = 0.5

#: The chains that are compared, each of another kind: merged over time, through time, of rates.
CHAINS: tuple[BackwardChain, ...] = (HART(), STBP(), RGA())

Gradients = dict[str, Tensor]


def flags(sample: Sample) -> list[Flag]:
    """
    :param sample: What is examined.
    :return: The flags of this module.
    """
    by_margin, silent = _gradients(sample, margin)
    by_entropy, _ = _gradients(sample, cross_entropy)
    found = [_zero(by_margin, silent), _saturated(by_margin, by_entropy)]
    return found + ([_disagreement(by_margin)] if len(by_margin) > 1 else [])


def _gradients(sample: Sample, loss: object) -> tuple[Gradients, tuple[str, ...]]:
    """Gradients along each chain `(n, d)`, and the layers that never fired."""
    classifier, found, silent = sample.classifier, {}, set[str]()
    spiking = isinstance(classifier, PyTorchSNNClassifier)
    labels = torch.from_numpy(sample.labels).to(classifier.device)
    for chain in CHAINS if spiking else (None,):
        parts = []
        for start in range(0, len(sample.x), sample.batch_size):
            part = slice(start, start + sample.batch_size)
            x = torch.from_numpy(sample.x[part]).to(classifier.device)
            if chain is None:
                parts.append(logits_and_gradient(classifier, x, labels[part], loss)[1])  # type: ignore[arg-type]
                continue
            with classifier.following(chain):
                parts.append(logits_and_gradient(classifier, x, labels[part], loss)[1])  # type: ignore[arg-type]
        found["its own" if chain is None else repr(chain)] = torch.cat(parts).flatten(1).cpu()
    if spiking:
        silent |= set(_silent(classifier, sample))
    return found, tuple(sorted(silent))


def _silent(classifier: PyTorchSNNClassifier, sample: Sample) -> list[str]:
    """Spiking layers that fired at no step, for no sample."""
    neurons = classifier.model.neuron_modules
    names = [name for name, module in classifier.model.named_modules() if module in neurons]
    return [name for name in names if not _fires(classifier, name, sample.x[: sample.batch_size])]


def _fires(classifier: PyTorchSNNClassifier, name: str, x: np.ndarray) -> bool:
    return bool(np.abs(np.asarray(classifier.get_activations(x, name, batch_size=len(x)))).max() > 0)


def _still(grad: Tensor) -> Tensor:
    """Which samples no step can move."""
    largest = grad.abs().amax(1)
    return (largest == 0) | ~torch.isfinite(largest)


def _zero(gradients: Gradients, silent: tuple[str, ...]) -> Flag:
    shares = {chain: float(_still(grad).float().mean()) for chain, grad in gradients.items()}
    chain = max(shares, key=lambda name: shares[name])
    said = f"along {chain} {percent(shares[chain])} of the samples have no gradient, so that no step moves them"
    if silent:
        said += f"; {', '.join(silent)} never fires, so that what is behind it is not attacked"
    raised = shares[chain] > STUCK or bool(silent)
    said += ": robustness measured so is none." if raised else "."
    return Flag("zero-gradient", shares[chain], STUCK, said, raised)


def _saturated(by_margin: Gradients, by_entropy: Gradients) -> Flag:
    shares = [
        float((_still(by_entropy[chain]) & ~_still(by_margin[chain])).float().mean()) for chain in by_margin
    ]  # fmt: skip
    meaning = (
        f"for {percent(max(shares))} of the samples the logits are so large that cross-entropy has no gradient in "
        "float32, where the margin has: attacks along cross-entropy do not attack them."
    )
    return Flag("saturated-loss", max(shares), STUCK, meaning, max(shares) > STUCK)


def _disagreement(gradients: Gradients) -> Flag:
    worst, pair = 0.0, ("", "")
    for one, other in combinations(gradients, 2):
        cosine = torch.nn.functional.cosine_similarity(gradients[one].double(), gradients[other].double(), dim=1)
        known = ~(_still(gradients[one]) | _still(gradients[other]))
        apart = float((cosine[known] < ALIKE).float().mean()) if bool(known.any()) else 1.0
        if apart >= worst:
            worst, pair = apart, (one, other)
    meaning = (
        f"the gradients along {pair[0]} and {pair[1]} are uncorrelated or opposed on {percent(worst)} of the samples"
        + (": at least one of them does not say where the loss grows." if worst > DISAGREE else ".")
    )
    return Flag("chains-disagree", worst, DISAGREE, meaning, worst > DISAGREE)
