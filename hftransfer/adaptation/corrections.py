"""Corrections that cost no training: one temperature, and class frequencies of the target where they are believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..selection.calibration import calibrated, fit_temperature
from ..selection.class_frequencies import LabelShiftEstimate
from ..selection.model_predictions import softmax
from .stored_predictions import StoredPredictions

LARGEST_WEIGHT, SMALLEST_WEIGHT = 5.0, 0.2  # of a class's source rows in a student's training


@dataclass(frozen=True)
class Correction:
    r"""Correction of a trained model's logits: \(\log\mathrm{softmax}(\log\mathrm{softmax}(z/T) + \log w)\).

    Both parts fit into the final layer: its weight over T, its bias over T plus log w. What is saved is a plain model.

    Args:
        temperature: T.
        weights: (K,), w, target over source class frequencies; `None` for 1 each.

    Paper: Guo et al., On Calibration of Modern Neural Networks, ICML 2017; Saerens, Latinne and Decaestecker,
    Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural Computation 2002.
    """

    temperature: float = 1.0
    weights: np.ndarray | None = None

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """(rows, K) logits -> (rows, K) log-probabilities."""
        joint = calibrated(logits, self.temperature)
        if self.weights is not None:
            joint = joint * self.weights
        joint = joint / joint.sum(-1, keepdims=True)
        return np.log(np.maximum(joint, 1e-12))

    @property
    def bias(self) -> np.ndarray | float:
        """What is added to the final layer's bias over T."""
        return 0.0 if self.weights is None else np.log(self.weights)


def calibration(predictions: StoredPredictions, class_weights: np.ndarray | None = None) -> Correction:
    """Temperature of a candidate, fitted on source validation rows.

    Args:
        predictions: of the candidate.
        class_weights: (K,), of a model that was trained for other class frequencies: rows count by their class.
    """
    labels = predictions.source_validation_labels
    rows = None if class_weights is None else np.asarray(class_weights)[labels]
    return Correction(fit_temperature(predictions.source_validation_logits, labels, rows))


def soft_probabilities(predictions: StoredPredictions, correction: Correction) -> np.ndarray:
    """(m, K) soft labels of the predicted target rows."""
    return softmax(correction(predictions.target_logits))


def training_weights(shift: LabelShiftEstimate | None, class_counts: np.ndarray) -> np.ndarray | None:
    """(K,) what a source row of each class counts in a student's training; source rows count 1 on average.

    Args:
        shift: `None`, or not believed, for no weights.
        class_counts: (K,) rows of each class that are trained on.
    """
    if shift is None or not shift.believed:
        return None
    shares = class_counts / class_counts.sum()
    weights = np.clip(shift.target_frequencies / np.maximum(shares, 1e-12), SMALLEST_WEIGHT, LARGEST_WEIGHT)
    return weights / (weights * shares).sum()
