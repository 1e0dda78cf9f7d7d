"""KLIEP: the density ratio whose weighted source is nearest the target in Kullback-Leibler divergence."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ...setting_ranges import POSITIVE, SEED
from ..feature_arrays import domain_matrices
from .gaussian_kernel import median_distance, squared_distances

CENTRES = 100  # target rows that carry a kernel, at most
FOLDS = 5
FACTORS = (0.5, 1.0, 2.0)  # of the median distance: bandwidths that are tried
TINY = 1e-300


def kliep(
    source_features: ArrayLike,
    target_features: ArrayLike,
    bandwidth: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    r"""Kullback-Leibler importance estimation (KLIEP): density ratio of target and source on the source rows.

    \[w(x) = \sum_l \alpha_l\, k(x, c_l), \qquad \max_{\alpha \ge 0} \sum_j \log w(t_j)
      \quad \text{such that} \quad \frac1n \sum_i w(s_i) = 1\]

    The centres c are at most 100 target rows. With \(\beta_l = \alpha_l \cdot \frac1n\sum_i k(s_i, c_l)\) this is the
    likelihood of a mixture of fixed parts, which is concave; in logarithms, so that no kernel underflows. Cost: (n +
    m) · 100 kernel values for each bandwidth.

    Args:
        source_features, target_features: (n, d) and (m, d).
        bandwidth: σ of the Gaussian kernel; when absent, the multiple of the median distance under which held-out
            target rows are likeliest.
        seed: of the centres and the folds.

    Returns:
        (n,) weights with mean 1.

    Raises:
        ValueError: features that do not fit together or are not finite, or a bandwidth out of range.

    Paper: Sugiyama, Nakajima, Kashima, von Bünau and Kawanabe, Direct Importance Estimation with Model Selection and
    Its Application to Covariate Shift Adaptation, NIPS 2007.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> weights = kliep(draw.normal(size=(300, 1)), draw.normal(size=(200, 1)) + 1)
        >>> round(float(weights.mean()), 6)
        1.0
    """
    source, target = domain_matrices(source_features, target_features)
    bandwidth = None if bandwidth is None else float(POSITIVE.read("bandwidth", bandwidth))
    seed = int(SEED.read("seed", seed))
    draw = np.random.default_rng(seed)
    centres = target[draw.choice(len(target), min(CENTRES, len(target)), replace=False)]
    on_source, on_target = squared_distances(source, centres), squared_distances(target, centres)
    if bandwidth is None:
        median = median_distance(source, target, seed)
        folds = np.array_split(draw.permutation(len(target)), min(FOLDS, len(target)))
        scores = [_held_out_likelihood(on_source, on_target, factor * median, folds) for factor in FACTORS]
        bandwidth = FACTORS[int(np.argmax(scores))] * median
    log_norm, shares = _fit(on_source, on_target, bandwidth)
    return np.exp(_log_ratio(on_source, bandwidth, log_norm, shares))


def _fit(on_source: np.ndarray, on_target: np.ndarray, bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
    """Log of each kernel's mean on the source (c,), and the shares β (c,), which sum to 1."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    log_norm = logsumexp(-on_source / (2 * bandwidth**2), axis=0) - math.log(len(on_source))
    log_parts = -on_target / (2 * bandwidth**2) - log_norm
    scaled = np.exp(log_parts - log_parts.max(1, keepdims=True))  # a row's own factor changes no share

    def loss_and_gradient(shares: np.ndarray) -> tuple[float, np.ndarray]:
        # Without the constraint, and the sum of the shares taken off: at the maximum that sum is 1.
        ratio = np.maximum(scaled @ shares, TINY)
        return float(shares.sum() - np.log(ratio).mean()), 1 - (scaled / ratio[:, None]).mean(0)

    start = np.full(len(log_norm), 1 / len(log_norm))
    options = {"maxiter": 2000, "maxfun": 10_000, "ftol": 1e-11, "gtol": 1e-6}
    solution = minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start), options=options
    )
    return log_norm, solution.x / solution.x.sum()


def _log_ratio(squares: np.ndarray, bandwidth: float, log_norm: np.ndarray, shares: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(-squares / (2 * bandwidth**2) - log_norm, axis=1, b=shares))


def _held_out_likelihood(
    on_source: np.ndarray, on_target: np.ndarray, bandwidth: float, folds: list[np.ndarray]
) -> float:
    """Mean log ratio of target rows that the ratio was not fitted on."""
    scores = []
    for fold in folds:
        log_norm, shares = _fit(on_source, np.delete(on_target, fold, axis=0), bandwidth)
        scores.append(_log_ratio(on_target[fold], bandwidth, log_norm, shares).mean())
    return float(np.mean(scores))
