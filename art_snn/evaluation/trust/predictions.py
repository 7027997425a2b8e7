"""Is a prediction a function of the input alone?

`random-predictions`: five forwards of one batch differ. `batch-dependent`: a sample's logits depend on which others are
in its batch, or on what was predicted before.
"""

from __future__ import annotations

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_snn.evaluation.flag import Flag
from art_snn.evaluation.trust.sample import Sample, percent

FORWARDS = 5

#: By how much two logits may differ, in units of their spread over classes: float32 rounds by about 1e-6, and a batch
#: of another size rounds otherwise.
SAME = 1e-3

#: Share of samples whose logits may differ in another batch: where a potential lies within rounding of the threshold, a
#: spike may come or not.
FEW = 0.05


def flags(sample: Sample) -> list[Flag]:
    """
    :param sample: What is examined.
    :return: The flags of this module.
    """
    return [random(sample), _batch_dependent(sample)]


def random(sample: Sample) -> Flag:
    """
    :param sample: What is examined.
    :return: Whether five forwards of one batch differ.
    """
    found = np.stack([sample.logits(sample.x) for _ in range(FORWARDS)])
    moved = float(np.abs(found - found[0]).max() / _spread(found[0]))
    right = (found.argmax(2) == sample.labels).sum(1)
    raised = moved > SAME or bool(right.min() < right.max())
    meaning = (
        f"five forwards of one batch differ by {moved:.2g} of the logits' spread, and {right.min()} to {right.max()} "
        f"of {len(sample.labels)} samples are classified correctly"
        + (": one prediction says little, so that success is judged over repeated ones." if raised else ".")
    )
    return Flag("random-predictions", moved, SAME, meaning, raised)


def is_random(classifier: PyTorchClassifier, x: np.ndarray) -> bool:
    """
    :param classifier: A classifier.
    :param x: Inputs `(n, ...)`.
    :return: Whether forwards of one batch differ.
    """
    labels = np.zeros(len(x), dtype=np.int64)
    found = random(Sample(classifier, x, labels, 1.0, np.inf, 0, len(x)))
    return found.value is not None and found.value > SAME


def _batch_dependent(sample: Sample) -> Flag:
    few = sample.x[: min(16, len(sample.x))]
    together = sample.logits(few, len(few))
    alone = np.concatenate([sample.logits(one[None], 1) for one in few])
    sample.logits(np.ascontiguousarray(sample.x[::-1]))
    after = sample.logits(few, len(few))
    moved = np.maximum(np.abs(alone - together), np.abs(after - together)).max(1) / _spread(together)
    share = float((moved > SAME).mean())
    meaning = (
        f"the logits of {percent(share)} of the samples depend on their batch, or on what was predicted before"
        + (": what fools in one batch need not in another." if share > FEW else ".")
    )
    return Flag("batch-dependent", share, FEW, meaning, share > FEW)


def _spread(logits: np.ndarray) -> float:
    """How far a sample's logits are apart, on average."""
    return float(np.maximum((logits.max(1) - logits.min(1)).mean(), 1e-30))
