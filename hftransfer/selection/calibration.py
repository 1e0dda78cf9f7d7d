"""Calibration of predictions by one temperature."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .model_predictions import softmax

COLDEST, WARMEST = 0.05, 20.0


def fit_temperature(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    r"""Temperature scaling: the T whose softmax(z / T) makes the labels likeliest.

    Above 1 the model was too sure of itself. Accuracy stays as it is.

    Args:
        logits: (n, K), of rows that were not trained on.
        labels: (n,) class ids.
        weights: (n,) of the rows; alike when absent.

    Returns:
        T, between 0.05 and 20. Where every row is right the likelihood has no maximum, and T would be the coldest:
        then 1 is returned.

    Paper: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Example:
        >>> round(fit_temperature([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]], [0, 0, 0, 1]), 2)
        1.82
    """
    from scipy.optimize import minimize_scalar

    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if (z.argmax(1) == y).all():
        return 1.0
    row_weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    z = z - z.max(1, keepdims=True)
    own = z[np.arange(len(y)), y]

    def negative_log_likelihood(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.average(np.log(np.exp(z * scale).sum(1)) - own * scale, weights=row_weights))

    bounds = np.log(COLDEST), np.log(WARMEST)
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    r"""Expected calibration error: how far confidence and accuracy lie apart, over bins of equal width.

    \[\sum_b \frac{n_b}{n}\,\lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert\]

    Args:
        probabilities: (n, K).
        labels: (n,) class ids.
        bins: how many, between confidence 0 and 1.

    Paper: Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    confidence, right = p.max(1), p.argmax(1) == y
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(number, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y))


def calibrated(logits: ArrayLike, temperature: float) -> np.ndarray:
    """(…, K) logits -> (…, K) probabilities softmax(z / T)."""
    return softmax(np.asarray(logits, dtype=np.float64) / temperature)
