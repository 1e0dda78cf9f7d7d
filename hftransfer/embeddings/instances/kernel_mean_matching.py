"""Kernel mean matching (KMM): weights under which the source has the target's mean in a kernel's feature space."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ...setting_ranges import FROM_ZERO, POSITIVE, SEED
from ..feature_arrays import domain_matrices
from .gaussian_kernel import gaussian_kernel, median_distance

BLOCK = 1000  # source rows that are matched at once: the kernel has their square
HALVINGS = 60  # of the interval in which the multiplier of the sum is looked for


def kernel_mean_matching(
    source_features: ArrayLike,
    target_features: ArrayLike,
    bandwidth: float | None = None,
    bound: float = 1000.0,
    tolerance: float | None = None,
    ridge: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    r"""Kernel mean matching (KMM): weights of source rows by a quadratic program.

    \[\min_w \tfrac12 w^\top (K + \lambda I) w - \kappa^\top w, \quad 0 \le w_i \le B, \quad
      \Big|\sum_i w_i - n\Big| \le n\,\epsilon, \qquad \kappa_i = \frac{n}{m} \sum_j k(s_i, t_j)\]

    k is a Gaussian kernel. The paper has λ = 0; the program is then all but flat in most directions, and its solution
    is a few spikes: on two Gaussians with a known ratio, weights with λ = 1 follow it, and those without hardly do.
    More than 1,000 source rows are matched in random blocks of equal size, each with the
    whole target. Cost: O(n · (1,000 + m)) kernel values, and a few hundred products with a block's kernel.

    Args:
        source_features, target_features: (n, d) and (m, d).
        bandwidth: σ of the kernel; the median distance of rows when absent.
        bound: B.
        tolerance: ε; \((\sqrt n - 1)/\sqrt n\) of a block's rows when absent.
        ridge: λ, at least 0.
        seed: of the blocks.

    Returns:
        (n,) weights, as the program gives them.

    Raises:
        ValueError: features that do not fit together or are not finite, or a setting out of range.

    Paper: Huang, Smola, Gretton, Borgwardt and Schölkopf, Correcting Sample Selection Bias by Unlabeled Data,
    NIPS 2006.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> source, target = draw.normal(size=(200, 1)), draw.normal(size=(200, 1)) + 1
        >>> weights = kernel_mean_matching(source, target)
        >>> bool(np.average(source[:, 0], weights=weights) > 0.7)
        True
    """
    source, target = domain_matrices(source_features, target_features)
    bandwidth = None if bandwidth is None else POSITIVE.read("bandwidth", bandwidth)
    tolerance = None if tolerance is None else POSITIVE.read("tolerance", tolerance)
    bound = POSITIVE.read("bound", bound)
    ridge, seed = FROM_ZERO.read("ridge", ridge), int(SEED.read("seed", seed))
    sigma = median_distance(source, target, seed) if bandwidth is None else bandwidth
    order = np.random.default_rng(seed).permutation(len(source))
    weights = np.empty(len(source))
    for rows in np.array_split(order, math.ceil(len(source) / BLOCK)):
        block, n = source[rows], len(rows)
        kappa = n * gaussian_kernel(block, target, sigma).mean(1)
        slack = (math.sqrt(n) - 1) / math.sqrt(n) if tolerance is None else tolerance
        kernel = gaussian_kernel(block, block, sigma) + ridge * np.eye(n)
        weights[rows] = _program(kernel, kappa, bound, n * (1 - slack), n * (1 + slack))
    return weights


def _program(kernel: np.ndarray, kappa: np.ndarray, bound: float, least: float, most: float) -> np.ndarray:
    """Minimum of the program in a box, with a sum between two bounds.

    Where the minimum in the box breaks a bound, the sum gets a multiplier: the sum falls as it grows, so it is halved
    in.
    """
    if bound * len(kappa) < least:
        raise ValueError(
            f"bound={bound:g} leaves no weights with a sum of {least:.4g} over {len(kappa)} rows: raise it."
        )
    weights = _in_box(kernel, kappa, bound, np.ones(len(kappa)))
    total = weights.sum()
    if least <= total <= most:
        return weights
    aim = least if total < least else most
    reach = float(np.abs(kappa).max() + kernel.sum(1).max() * bound)
    low, high = (-reach, 0.0) if total < least else (0.0, reach)
    for _ in range(HALVINGS):
        multiplier = (low + high) / 2
        weights = _in_box(kernel, kappa - multiplier, bound, weights)
        total = weights.sum()
        if abs(total - aim) <= 1e-6 * max(1.0, aim):
            break
        low, high = (multiplier, high) if total > aim else (low, multiplier)
    return weights


def _in_box(kernel: np.ndarray, linear: np.ndarray, bound: float, start: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    def value_and_gradient(w: np.ndarray) -> tuple[float, np.ndarray]:
        product = kernel @ w
        return float(w @ (0.5 * product - linear)), product - linear

    options = {"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-13, "gtol": 1e-8}
    bounds = [(0.0, bound)] * len(linear)
    return np.asarray(
        minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    )
