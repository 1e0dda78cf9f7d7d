"""Gaussian kernel of feature rows, with the median distance as its bandwidth."""

from __future__ import annotations

import numpy as np

SAMPLED = 1000  # rows whose distances give the median


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, (n, d) and (m, d) -> (n, m)."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
    return np.maximum(squares, 0.0)


def gaussian_kernel(a: np.ndarray, b: np.ndarray, bandwidth: float) -> np.ndarray:
    r"""Gaussian kernel \(\exp(-\lVert a_i - b_j\rVert^2 / 2\sigma^2)\), (n, d) and (m, d) -> (n, m)."""
    return np.exp(-squared_distances(a, b) / (2 * bandwidth**2))


def median_distance(source: np.ndarray, target: np.ndarray, seed: int = 0) -> float:
    """Median distance between rows of both domains together, of at most 1,000 rows.

    Raises:
        ValueError: more than half of the rows are the same.

    Example:
        >>> median_distance(np.array([[0.0], [1.0]]), np.array([[3.0]]))
        2.0
    """
    rows = np.concatenate([source, target])
    if len(rows) > SAMPLED:
        rows = rows[np.random.default_rng(seed).choice(len(rows), SAMPLED, replace=False)]
    distances = np.sqrt(squared_distances(rows, rows)[np.triu_indices(len(rows), 1)])
    median = float(np.median(distances))
    if not median > 0:
        raise ValueError("Most rows of source and target are the same: there is no distance to set a bandwidth by.")
    return median
