"""LogME: log of the maximum evidence."""

from __future__ import annotations

import numpy as np

from .transferability_score import TransferabilityScore

STEPS = 200
TOLERANCE = 1e-6  # relative change of α/β
SMALLEST = 1e-12  # residual, as a share of a label column's square: what a perfect fit leaves


class LogME(TransferabilityScore):
    r"""LogME, the evidence of a Bayesian linear regression of the labels on the features.

    \[\frac1n\,\max_{\alpha,\beta}\log\mathcal N\big(y;\,0,\ \beta^{-1}I + \alpha^{-1}FF^\top\big)\]

    for each class a column y of 0 and 1; the mean over the classes that occur. α and β are found by the fixed point
    γ = Σ σ²/(σ² + α/β), α = γ/‖m‖², β = (n - γ)/‖Fm - y‖², from one thin singular value decomposition of F, until
    α/β changes by less than a millionth (the authors stop at a hundredth, or after eleven steps).

    Larger features fit more evidence: it is compared between checkpoints on the same rows.

    Paper: You et al., LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021.
    """

    name = "logme"
    paper = "You et al., LogME, ICML 2021"

    def compute(self, features: np.ndarray, classes: np.ndarray) -> float:
        rows = len(features)
        columns = np.eye(classes.max() + 1)[classes]
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        kept = singular > singular[0] * max(features.shape) * np.finfo(float).eps
        squares, along = singular[kept, None] ** 2, (left[:, kept].T @ columns) ** 2  # (r, 1), (r, K)
        total = columns.sum(0)  # of squares: they are 0 and 1
        outside = np.maximum(total - along.sum(0), 0.0)
        if not kept.any():
            return _evidence(rows, squares, along, outside, total, np.full_like(total, np.inf)).mean()
        ratio = np.full_like(total, squares.mean())
        for _ in range(STEPS):
            gamma = (squares / (squares + ratio)).sum(0)
            left_over = rows - len(squares) + (ratio / (squares + ratio)).sum(0)  # n - γ
            residual = ((ratio / (squares + ratio)) ** 2 * along).sum(0) + outside
            length = (squares * along / (squares + ratio) ** 2).sum(0)
            with np.errstate(divide="ignore"):
                following = gamma * residual / (left_over * length)
            following = np.clip(following, SMALLEST * squares.min(), squares.max() / SMALLEST)
            change = np.abs(following - ratio) / ratio
            ratio = following
            if change.max() < TOLERANCE:
                break
        return _evidence(rows, squares, along, outside, total, ratio).mean()


def _evidence(
    rows: int, squares: np.ndarray, along: np.ndarray, outside: np.ndarray, total: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """(K,) log evidence a row at α/β = `ratio`, with the best β for it: yᵀ(I + FFᵀ/ratio)⁻¹y = n/β."""
    scale = 1 + squares / ratio
    quadratic = np.maximum((along / scale).sum(0) + outside, SMALLEST * total)
    beta = rows / quadratic
    return 0.5 * (np.log(beta) - np.log(scale).sum(0) / rows - 1 - np.log(2 * np.pi))
