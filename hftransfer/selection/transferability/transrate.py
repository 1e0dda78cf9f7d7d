"""TransRate: coding rate of the features less that within classes."""

from __future__ import annotations

import numpy as np

from .transferability_score import TransferabilityScore


class TransRate(TransferabilityScore):
    r"""TransRate, the coding rate of the features less the mean of that within classes.

    \[R(Z) - \frac1K\sum_c R(Z_c), \qquad R(Z) = \frac12\log\det\Big(I + \frac{1}{n\varepsilon}Z^\top Z\Big)\]

    with Z the centred features and n the rows of Z or Zc. It grows with the scale of the features, and does not
    change when the axes are turned; checkpoints whose features are of other sizes are not comparable by it.

    Args:
        epsilon: ε, the distortion; the authors' is 1e-4.

    Paper: Huang et al., Frustratingly Easy Transferability Estimation, ICML 2022.
    """

    name = "transrate"
    paper = "Huang et al., Frustratingly Easy Transferability Estimation, ICML 2022"

    def __init__(self, epsilon: float = 1e-4):
        if not epsilon > 0:
            raise ValueError(f"epsilon={epsilon!r} must be a positive number.")
        self.epsilon = epsilon

    def compute(self, features: np.ndarray, classes: np.ndarray) -> float:
        centred = features - features.mean(0)
        within = [self._rate(centred[classes == c]) for c in range(classes.max() + 1)]
        return self._rate(centred) - float(np.mean(within))

    def _rate(self, rows: np.ndarray) -> float:
        """Coding rate, by the smaller of the two matrices of products."""
        products = rows.T @ rows if rows.shape[1] <= len(rows) else rows @ rows.T
        return 0.5 * np.linalg.slogdet(np.eye(len(products)) + products / (len(rows) * self.epsilon))[1]
