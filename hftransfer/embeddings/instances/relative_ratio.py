"""RuLSIF: the relative density ratio by least squares, which has a bound and a closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ...setting_ranges import POSITIVE, SEED, SHARE_BELOW_1
from ..feature_arrays import domain_matrices
from .gaussian_kernel import median_distance, squared_distances

CENTRES = 100  # target rows that carry a kernel, at most
FOLDS = 5
FACTORS = (0.25, 0.5, 1.0, 2.0)  # of the median distance: bandwidths that are tried
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # that are tried


def rulsif(
    source_features: ArrayLike,
    target_features: ArrayLike,
    alpha: float = 0.1,
    bandwidth: float | None = None,
    ridge: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    r"""Relative unconstrained least-squares importance fitting (RuLSIF): a bounded ratio of densities.

    \[r_\alpha(x) = \frac{p_T(x)}{\alpha\,p_T(x) + (1-\alpha)\,p_S(x)} \le \frac1\alpha, \qquad
      r_\alpha(x) \approx \max(0,\ \theta^\top k(x)), \quad \theta = (H + \lambda I)^{-1} h\]

    \[H = \frac{\alpha}{m} \sum_j k(t_j)k(t_j)^\top + \frac{1-\alpha}{n} \sum_i k(s_i)k(s_i)^\top, \qquad
      h = \frac1m \sum_j k(t_j)\]

    k(x) are Gaussian kernels around at most 100 target rows. α = 0 is uLSIF, the plain density ratio. Cost: (n + m) ·
    100 kernel values for each bandwidth.

    Args:
        source_features, target_features: (n, d) and (m, d).
        alpha: α, at least 0 and below 1.
        bandwidth: σ; when absent, the multiple of the median distance with the least held-out error.
        ridge: λ; when absent, chosen likewise.
        seed: of the centres and the folds.

    Returns:
        (n,) weights of the source rows.

    Raises:
        ValueError: features that do not fit together or are not finite, or a setting out of range.

    Papers: Yamada, Suzuki, Kanamori, Hachiya and Sugiyama, Relative Density-Ratio Estimation for Robust Distribution
    Comparison, NIPS 2011; Kanamori, Hido and Sugiyama, A Least-squares Approach to Direct Importance Estimation,
    JMLR 2009.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> weights = rulsif(draw.normal(size=(300, 1)), draw.normal(size=(200, 1)) + 1)
        >>> bool((weights >= 0).all()), weights.shape
        (True, (300,))
    """
    source, target = domain_matrices(source_features, target_features)
    alpha, seed = SHARE_BELOW_1.read("alpha", alpha), int(SEED.read("seed", seed))
    bandwidth = None if bandwidth is None else POSITIVE.read("bandwidth", bandwidth)
    ridge = None if ridge is None else POSITIVE.read("ridge", ridge)
    draw = np.random.default_rng(seed)
    centres = target[draw.choice(len(target), min(CENTRES, len(target)), replace=False)]
    on_source, on_target = squared_distances(source, centres), squared_distances(target, centres)
    median = median_distance(source, target, seed) if bandwidth is None else 1.0
    folds = [
        np.array_split(draw.permutation(rows), min(FOLDS, len(source), len(target)))
        for rows in (len(source), len(target))
    ]
    bandwidths = [factor * median for factor in FACTORS] if bandwidth is None else [bandwidth]
    ridges = RIDGES if ridge is None else [ridge]
    best = (bandwidths[0], ridges[0])
    if len(bandwidths) * len(ridges) > 1:
        scores = {
            (sigma, penalty): error
            for sigma in bandwidths
            for penalty, error in zip(
                ridges,
                _held_out_errors(_kernel(on_source, sigma), _kernel(on_target, sigma), alpha, ridges, folds),
                strict=True,
            )
        }
        best = min(scores, key=lambda key: scores[key])
    sigma, penalty = best
    theta = _solve(*_moments(_kernel(on_source, sigma), _kernel(on_target, sigma), alpha), penalty)
    return np.maximum(_kernel(on_source, sigma) @ theta, 0.0)


def _kernel(squares: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(-squares / (2 * bandwidth**2))


def _moments(on_source: np.ndarray, on_target: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """H (c, c) and h (c,) of kernel values on source rows (n, c) and target rows (m, c)."""
    second = alpha * on_target.T @ on_target / len(on_target) + (1 - alpha) * on_source.T @ on_source / len(on_source)
    return second, on_target.mean(0)


def _solve(second: np.ndarray, first: np.ndarray, ridge: float) -> np.ndarray:
    return np.linalg.solve(second + ridge * np.eye(len(first)), first)


def _held_out_errors(
    on_source: np.ndarray,
    on_target: np.ndarray,
    alpha: float,
    ridges: tuple[float, ...] | list[float],
    folds: list[list[np.ndarray]],
) -> np.ndarray:
    r"""Mean of \(\frac12 \theta^\top H \theta - h^\top \theta\) on held-out rows, by ridge."""
    errors = np.zeros(len(ridges))
    for source_fold, target_fold in zip(*folds, strict=True):
        fitted = _moments(np.delete(on_source, source_fold, 0), np.delete(on_target, target_fold, 0), alpha)
        second, first = _moments(on_source[source_fold], on_target[target_fold], alpha)
        for i, ridge in enumerate(ridges):
            theta = _solve(*fitted, ridge)
            errors[i] += 0.5 * theta @ second @ theta - first @ theta
    return errors / len(folds[0])
