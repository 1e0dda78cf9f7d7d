"""Findings of a run: collapse, a discriminator that always wins or never does, and a falling source accuracy.

Rules on counts and accuracies alone. They are cautious: a run that does what it should has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .step.batch_counts import Counts

FEWEST_ROWS = 64  # of each domain, that a window is judged by
COLLAPSE_FROM, BLIND_FROM = 0.2, 0.5  # share of the run before which collapse, or a head that learns nothing, is early
FALL_FROM = 1 / 3  # share of the run before which source accuracy may jump
OTHERS_LEFT = 0.03  # largest share of target rows outside the commonest class that is a collapse
OTHERS_RATIO = 0.1  # and the largest ratio of that share to the source's
FEWEST_OTHERS = 20  # target rows that would be outside if the target's classes were the source's
TOLD_APART = 0.3  # of the source's share outside its commonest class: what a head that tells classes apart predicts
ENTROPY_RATIO = 0.2  # entropy of the mean target prediction, to that of source labels, below which it is collapse
ALWAYS, ALWAYS_FROM = 0.98, 0.5  # a discriminator's accuracy in a window, and the share of the run
NEVER, NEVER_FROM, NEVER_ROWS = 0.52, 0.5, 512  # the same, from the beginning, on at least so many rows a domain
TRAINING_FALL = 0.10  # of source accuracy below its best window
VALIDATION_FALL, VALIDATION_REFUSED = 0.03, 0.10  # of source accuracy below its best evaluation
NEAR_END = 2 / 3  # share of the run from which two evaluations in a row that are below are enough
CHANGED_ANSWERS = 0.1  # share of answers that differ between two good models: what an evaluation's noise comes from


@dataclass(frozen=True)
class Finding:
    """What went wrong in a run, named when it began.

    Args:
        kind: `"collapse"`, `"discriminator_always"`, `"discriminator_never"`, `"source_training_accuracy"` or
            `"source_validation_accuracy"`.
        subject: the objective or the evaluation set; empty for the whole run.
        step: at which it was seen.
        text: one or two sentences with the remedy.
    """

    kind: str
    subject: str
    step: int
    text: str


def is_collapsed(counts: Counts, progress: float) -> bool:
    """Whether target predictions of a window have collapsed onto one class or few, where source labels have not.

    Either the entropy of the mean target prediction is a small part of that of the source's labels; or nearly all
    target rows are given one class, by a head that tells the source's classes apart or has had half the run to learn
    it. A source with one class, and too few rows to tell, are no collapse.

    Args:
        counts: of the window.
        progress: share of the run that is done.

    Example:
        >>> counts = Counts(np.array([50.0, 50, 50, 50, 99, 1, 95, 5, 90]), classes=2)
        >>> is_collapsed(counts, progress=0.5)
        True
    """
    source_rows, target_rows = counts.source_labels.sum(), counts.target_predicted.sum()
    if min(source_rows, target_rows) < FEWEST_ROWS or progress < COLLAPSE_FROM:
        return False
    others = others_share(counts.source_labels)
    if others * target_rows < FEWEST_OTHERS:
        return False
    if _entropy(counts.target_probability) <= ENTROPY_RATIO * _entropy(counts.source_labels):
        return True
    if others_share(counts.target_predicted) > min(OTHERS_LEFT, OTHERS_RATIO * others):
        return False
    return others_share(counts.source_predicted) >= TOLD_APART * others or progress >= BLIND_FROM


def training_accuracy_fell(best: float, now: float, rows: float) -> bool:
    """Whether source accuracy of a window is more than ten points, and what chance explains, below the best window.

    Args:
        best, now: accuracies, best window and this one.
        rows: of this window.
    """
    mean = (best + now) / 2
    return best - now > TRAINING_FALL + 3 * math.sqrt(mean * (1 - mean) / max(rows, 1))


def validation_accuracy_fell(best: float, now: float, rows: int) -> bool:
    """Whether source validation accuracy is more than three points, and what chance explains, below its best."""
    return best - now > max(VALIDATION_FALL, 2 * _changed_by_chance(rows))


def validation_accuracy_is_lost(best: float, now: float, rows: int) -> bool:
    """Whether source validation accuracy is so far below its best that no rule would take the model."""
    return best - now > max(VALIDATION_REFUSED, 3 * _changed_by_chance(rows))


def others_share(counts: np.ndarray) -> float:
    """Share of what is not of the commonest class, (K,) -> between 0 and 1."""
    return 1 - float(counts.max() / max(counts.sum(), 1e-12))


def _entropy(counts: np.ndarray) -> float:
    shares = counts / max(counts.sum(), 1e-12)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


def _changed_by_chance(rows: int) -> float:
    """Standard error of the difference of two accuracies on the same rows."""
    return math.sqrt(CHANGED_ANSWERS / max(rows, 1))
