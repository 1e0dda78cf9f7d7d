"""Selection score: one number for a checkpoint, comparable over the steps of a run and over runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .calibration import fit_temperature
from .model_predictions import Predictions
from .validators import get_validator
from .validators.prediction_entropy import entropies

REFUSED = -1.0
SCORES = ("source_accuracy", "information", "nuclear_norm", "mixval_inter")


@dataclass(frozen=True)
class ScoredCheckpoint:
    """Selection score of one checkpoint.

    Args:
        value: between 0 and 1, or -1 where it is refused.
        parts: the scores whose mean it is, by name, each between 0 and 1.
        refused: why, in one sentence; empty where it is not.
    """

    value: float
    parts: dict[str, float] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class SelectionScore:
    r"""Selection score: the mean of validators that lie between 0 and 1 by themselves, behind two gates.

    \[\frac14\left[\mathrm{acc}_S + \mathrm{information} + \frac{\mathrm{nuclear\ norm} - 1/K}{1 - 1/K}
      + \mathrm{mixval_{inter}}\right]\]

    A rank average compares the candidates at hand and has no value for one alone; this has, so it can choose among
    checkpoints of a run and trials of a search. Predictions are calibrated by one temperature on the source's
    validation rows first: otherwise the score rises as the model grows surer. The score is -1, below all others,
    where accuracy on the source has fallen too far below the best so far, where the predictions have collapsed, or
    where they are not finite.

    Args:
        scores: names of validators between 0 and 1. Those whose input is absent, as mixtures in tagging, are left
            out.
        source_accuracy_within: how far accuracy on the source may lie below the best so far, between 0 and 1.
        diversity: smallest entropy of the target's mean prediction, as a part of that of the source's labels. It is
            low, since a target may hold much of one class.

    Example:
        >>> p = Predictions([[2.0, 0.0], [0.0, 2.0]], [0, 1], [[3.0, 0.0], [0.0, 3.0]])
        >>> SelectionScore().score(p).value > 0.8
        True
        >>> SelectionScore().score(replace(p, target_logits=[[3.0, 0.0], [2.0, 0.0]])).refused
        'Every target row is predicted as class 0.'
    """

    scores: tuple[str, ...] = SCORES
    source_accuracy_within: float = 0.03
    diversity: float = 0.25

    def score(self, predictions: Predictions, best_source_accuracy: float | None = None) -> ScoredCheckpoint:
        """Score of a checkpoint.

        Args:
            predictions: of source validation rows and of target rows, the same ones each time.
            best_source_accuracy: of earlier checkpoints of the run; without it, accuracy has no gate.
        """
        calibrated = calibrate(predictions)
        parts = {
            name: scaled(name, calibrated)
            for name in self.scores
            if all(getattr(calibrated, need) is not None for need in get_validator(name).needs())
        }
        refused = self.refusal(predictions, best_source_accuracy)
        return ScoredCheckpoint(REFUSED if refused else float(np.mean([*parts.values()])), parts, refused)

    def refusal(self, predictions: Predictions, best_source_accuracy: float | None = None) -> str:
        """The gate that a checkpoint fails, in one sentence; empty where it fails none."""
        p = predictions
        accuracy = get_validator("source_accuracy").score(p)
        if best_source_accuracy is not None and accuracy < best_source_accuracy - self.source_accuracy_within - 1e-9:
            return (
                f"Accuracy on the source is {100 * accuracy:.1f}, more than {100 * self.source_accuracy_within:g} "
                f"points below the best so far, {100 * best_source_accuracy:.1f}."
            )
        classes = np.unique(p.target_logits.argmax(1))
        if len(classes) == 1 and len(p.target_logits) > 1:
            return f"Every target row is predicted as class {classes[0]}."
        labels = np.bincount(p.source_labels) / len(p.source_labels)
        spread, expected = (float(entropies(frequencies)) for frequencies in (p.target_probabilities.mean(0), labels))
        if spread < self.diversity * expected:
            return (
                f"Predictions on the target have collapsed: the entropy of their mean is {spread:.2f}, that of the "
                f"source's labels {expected:.2f}."
            )
        return ""


def calibrate(predictions: Predictions) -> Predictions:
    """The same predictions over one temperature, fitted on source validation rows.

    Mixtures stay as they are: no temperature changes which class is largest.
    """
    p = predictions
    temperature = fit_temperature(p.source_logits, p.source_labels)
    return replace(p, source_logits=p.source_logits / temperature, target_logits=p.target_logits / temperature)


def scaled(name: str, predictions: Predictions) -> float:
    """A validator's score, moved to lie between 0 and 1: the nuclear norm of equal predictions is 1/K, not 0."""
    value = get_validator(name).score(predictions)
    if name == "nuclear_norm":
        rows, classes = predictions.target_logits.shape
        least = 1 / np.sqrt(classes * min(rows, classes))
        value = (value - least) / (1 - least) if least < 1 else value
    return float(np.clip(value, 0, 1))
