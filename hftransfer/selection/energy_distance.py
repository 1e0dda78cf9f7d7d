"""Energy distance of two sets of predictions, and what it is by chance."""

from __future__ import annotations

import numpy as np


class EnergyDistance:
    r"""Energy distance between weighted source rows and target rows.

    \[2\,E\lVert X - Y \rVert - E\lVert X - X' \rVert - E\lVert Y - Y' \rVert\]

    0 only where the distributions are the same. Distances between rows are computed once, so that many weightings
    cost little.

    Args:
        source: (n, d).
        target: (m, d).

    Paper: Székely and Rizzo, Energy Statistics: A Class of Statistics Based on Distances, Journal of Statistical
    Planning and Inference 2013.

    Example:
        >>> EnergyDistance([[0.0], [0.0]], [[1.0]])()
        2.0
    """

    def __init__(self, source: np.ndarray, target: np.ndarray):
        from scipy.spatial.distance import cdist

        source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
        rows = np.concatenate([source, target])
        self.distances = cdist(rows, rows)
        self.n, self.m = len(source), len(target)

    def __call__(self, weights: np.ndarray | None = None) -> float:
        """The distance, source rows weighted by (n,) weights; alike when absent."""
        weights = np.ones(self.n) if weights is None else np.asarray(weights, dtype=np.float64)
        signed = np.concatenate([weights / weights.sum(), np.full(self.m, -1 / self.m)])
        return float(-signed @ self.distances @ signed)

    def by_chance(
        self, draws: int = 500, seed: int = 0, quantile: float = 0.95, weights: np.ndarray | None = None
    ) -> float:
        """What the distance of two sets of these sizes is where they come from one distribution: a quantile over
        random divisions of all rows, of which the first set is weighted by (n,) weights."""
        draw = np.random.default_rng(seed)
        weights = np.ones(self.n) if weights is None else np.asarray(weights, dtype=np.float64)
        signed = np.concatenate([weights / weights.sum(), np.full(self.m, -1 / self.m)])
        divisions = np.stack([draw.permutation(signed) for _ in range(draws)])
        distances = -np.einsum("di,di->d", divisions @ self.distances, divisions)
        return float(np.quantile(distances, quantile))
