"""Class quotas of pseudo-labels: the surest target rows of each class, as many as the class is expected to have."""

from __future__ import annotations

import numpy as np

KEPT = 0.8  # of the rows that a class is expected to have


def within_quotas(probabilities: np.ndarray, frequencies: np.ndarray, share: float = KEPT) -> np.ndarray:
    r"""Whether each row is among the surest of its class.

    Of the rows that are predicted to be of class k, the \(\lceil \text{share} \cdot \pi_k m \rceil\) surest are. A
    class that is predicted more often than it is expected so loses the least sure rows, and a rare one keeps its own
    however sure other classes are.

    Args:
        probabilities: (m, K) predictions.
        frequencies: (K,) π, expected of the target; they sum to 1.
        share: how much of a class's expected rows are taken.

    Returns:
        (m,) bool.

    Paper: Zou, Yu, Kumar and Wang, Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced
    Self-Training, ECCV 2018: its portion of each class, of expected instead of predicted rows.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
        >>> within_quotas(p, np.array([0.5, 0.5])).tolist()
        [True, True, False, True]
    """
    predicted, certainty = probabilities.argmax(1), probabilities.max(1)
    kept = np.zeros(len(probabilities), dtype=bool)
    for k, frequency in enumerate(frequencies):
        rows = np.flatnonzero(predicted == k)
        surest_first = rows[np.argsort(-certainty[rows], kind="stable")]
        kept[surest_first[: int(np.ceil(share * frequency * len(probabilities)))]] = True
    return kept
