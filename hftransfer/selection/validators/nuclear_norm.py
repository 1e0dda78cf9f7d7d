"""Nuclear norm of the matrix of predictions."""

from __future__ import annotations

import numpy as np

from .validator import Validator


class NuclearNorm(Validator):
    r"""Normalised nuclear norm of the target's predictions: confidence and dispersion in one number.

    \[\frac{\lVert P \rVert_*}{\sqrt{m \cdot \min(m, K)}}\]

    the sum of singular values of the (m, K) predictions over its largest possible value: 1 for certain rows spread
    evenly over the classes, 1/√min(m, K) for rows that are all certain of one class. Where other frequencies π
    than equal ones are expected, column k of P is multiplied by \(\sqrt{K\pi_k}\): 1 is then for certain rows of these
    frequencies.

    Args:
        class_frequencies: (K,), π, those that are expected in the target; equal ones when absent.

    Paper: Deng et al., Confidence and Dispersity Speak: Characterizing Prediction Matrix for Unsupervised Accuracy
    Estimation, ICML 2023; Cui et al., CVPR 2020.
    """

    name = "nuclear_norm"
    paper = "Deng et al., Confidence and Dispersity Speak, ICML 2023"

    def __init__(self, class_frequencies: np.ndarray | None = None):
        self.class_frequencies = class_frequencies

    def compute(self, target_probabilities: np.ndarray) -> float:
        rows, classes = target_probabilities.shape
        if self.class_frequencies is not None:
            frequencies = np.asarray(self.class_frequencies, dtype=np.float64)
            target_probabilities = target_probabilities * np.sqrt(classes * frequencies / frequencies.sum())
        return np.linalg.norm(target_probabilities, "nuc") / np.sqrt(rows * min(rows, classes))
