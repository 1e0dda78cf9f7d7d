"""LogME: log of the maximum evidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .transferability_score import TransferabilityScore

POINTS, MARGIN = 128, 1e8  # of the search, from the smallest σ²/MARGIN to the largest σ²·MARGIN
STEPS = 40  # of the golden section around the best of them
GOLDEN = (5**0.5 - 1) / 2
SMALLEST = 1e-12  # yᵀ(I + FFᵀ/t)⁻¹y as a share of yᵀy: what is left of a perfect fit


class LogME(TransferabilityScore):
    r"""LogME, the evidence of a Bayesian linear regression of the labels on the features.

    \[\frac1n\,\max_{\alpha,\beta}\log\mathcal N\big(y;\,0,\ \beta^{-1}I + \alpha^{-1}FF^\top\big)\]

    for each class a column y of 0 and 1; the mean over the classes that occur. One thin singular value decomposition
    of F leaves a search for t = α/β, with β = n / yᵀ(I + FFᵀ/t)⁻¹y. The authors go to a fixed point of α and β
    instead: it is the same where it is the maximum, but with more columns than rows it may end at t = 0, below even
    the evidence of features that say nothing.

    It does not change with the scale of the features, and is compared between checkpoints on the same rows.

    Paper: You et al., LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021.
    """

    name = "logme"
    paper = "You et al., LogME, ICML 2021"

    def compute(self, features: np.ndarray, classes: np.ndarray) -> float:
        columns = np.eye(classes.max() + 1)[classes]
        total = columns.sum(0)  # of squares: they are 0 and 1
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        kept = singular > singular[0] * max(features.shape) * np.finfo(float).eps
        squares, along = singular[kept, None] ** 2, (left[:, kept].T @ columns) ** 2  # (r, 1), (r, K)
        outside = np.maximum(total - along.sum(0), 0.0)

        def evidence(log_ratio: np.ndarray) -> np.ndarray:
            """(K,) log evidence a row at t, with the best β for it."""
            scale = 1 + squares / np.exp(log_ratio)
            left_over = np.maximum((along / scale).sum(0) + outside, SMALLEST * total)
            fit = np.log(len(features) / left_over) - np.log(scale).sum(0) / len(features)
            return 0.5 * (fit - 1 - np.log(2 * np.pi))

        if not kept.any():
            return evidence(np.zeros_like(total)).mean()
        return _maximum(evidence, np.log(squares.min() / MARGIN), np.log(squares.max() * MARGIN), len(total)).mean()


def _maximum(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, count: int) -> np.ndarray:
    """(K,) maxima of K functions of one number each: a search on points, then a golden section around the best."""
    points = np.linspace(low, high, POINTS)
    values = np.stack([function(np.full(count, point)) for point in points])
    best = values.argmax(0)
    lower, upper = points[np.maximum(best - 1, 0)], points[np.minimum(best + 1, POINTS - 1)]
    for _ in range(STEPS):
        first, second = upper - GOLDEN * (upper - lower), lower + GOLDEN * (upper - lower)
        to_the_left = function(first) > function(second)
        lower, upper = np.where(to_the_left, lower, first), np.where(to_the_left, second, upper)
    return np.maximum(function((lower + upper) / 2), values.max(0))
