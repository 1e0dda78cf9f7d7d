"""Estimates of target accuracy from predictions: average thresholded confidence, optimal transport."""

from __future__ import annotations

import numpy as np

from ...extras import install_hint
from .prediction_entropy import entropies
from .validator import Validator


class ATC(Validator):
    r"""Average thresholded confidence: the share of target rows that are surer than a threshold.

    \[\frac1m\sum_i [\,s(p_i) \ge t\,], \qquad t:\ \frac1n\sum_j [\,s(p_j) < t\,] = \text{error on the source}\]

    with s the negative entropy. Calibrate the predictions first.

    Paper: Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance, ICLR 2022 (ATC-NE).
    """

    name = "atc"
    paper = "Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance, ICLR 2022"

    def compute(
        self, source_probabilities: np.ndarray, source_labels: np.ndarray, target_probabilities: np.ndarray
    ) -> float:
        return sure_rows(source_probabilities, source_labels, target_probabilities).mean()


def sure_rows(
    source_probabilities: np.ndarray, source_labels: np.ndarray, target_probabilities: np.ndarray
) -> np.ndarray:
    """(m,) whether each target row is surer than the threshold of `ATC`."""
    wrong = int((source_probabilities.argmax(1) != source_labels).sum())
    certain = np.sort(-entropies(source_probabilities))
    threshold = certain[wrong] if wrong < len(certain) else np.inf
    return -entropies(target_probabilities) >= threshold


class COT(Validator):
    r"""Confidence optimal transport: 1 minus the cost of moving the target's predictions onto the source's classes.

    \[1 - \min_{\Pi}\ \sum_{i,k} \Pi_{ik}\,(1 - p_{ik}), \qquad \sum_k \Pi_{ik} = \tfrac1m,\
      \sum_i \Pi_{ik} = \pi_k\]

    with π the class frequencies that are expected in the target: the source's, unless others are given. Never above
    the mean confidence, and below it by how far the predicted classes are from those frequencies. It needs POT.

    Args:
        class_frequencies: (K,), π; those of the source's validation rows when absent.

    Raises:
        ImportError: POT is not installed.

    Paper: Lu et al., Characterizing Out-of-Distribution Error via Optimal Transport, NeurIPS 2023.
    """

    name = "cot"
    paper = "Lu et al., Characterizing Out-of-Distribution Error via Optimal Transport, NeurIPS 2023"

    def __init__(self, class_frequencies: np.ndarray | None = None):
        self.class_frequencies = class_frequencies

    def compute(self, source_labels: np.ndarray, target_probabilities: np.ndarray) -> float:
        try:
            import ot
        except ImportError as error:
            raise ImportError(f"cot needs POT. Install it with: {install_hint('transport')}") from error
        rows, classes = target_probabilities.shape
        frequencies = self.class_frequencies
        if frequencies is None:
            frequencies = np.bincount(source_labels, minlength=classes)
        frequencies = np.asarray(frequencies, dtype=np.float64)
        cost = 1 - target_probabilities
        return 1 - ot.emd2(np.full(rows, 1 / rows), frequencies / frequencies.sum(), cost, numItermax=1_000_000)
