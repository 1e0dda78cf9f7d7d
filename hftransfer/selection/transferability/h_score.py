"""H-score with shrinkage."""

from __future__ import annotations

import numpy as np

from .class_moments import class_means
from .transferability_score import TransferabilityScore


class HScore(TransferabilityScore):
    r"""Shrunk H-score, the variance between classes over that of the features.

    \[(1-\lambda)\,\mathrm{tr}\big(\Sigma_\lambda^{-1}\,\mathrm{Cov}(E[F \mid y])\big), \qquad
      \Sigma_\lambda = (1-\lambda)\,\mathrm{Cov}(F) + \lambda\,\tfrac{\mathrm{tr}\,\mathrm{Cov}(F)}{d}\,I\]

    with λ by Ledoit and Wolf. Without shrinkage the score is unstable where rows are not many more than columns.
    Covariances divide by n. At most the number of classes less one; 0 where the features are constant.

    Papers: Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019;
    Ibrahim, Ponomareva and Mazumder, Newer is not Always Better: Rethinking Transferability Metrics, ECML PKDD 2022
    (shrinkage); Ledoit and Wolf, A Well-conditioned Estimator for Large-dimensional Covariance Matrices, JMVA 2004.
    """

    name = "h_score"
    paper = "Ibrahim, Ponomareva and Mazumder, Newer is not Always Better, ECML PKDD 2022"

    def compute(self, features: np.ndarray, classes: np.ndarray) -> float:
        from scipy.linalg import pinvh
        from sklearn.covariance import ledoit_wolf

        centred = features - features.mean(0)
        if not centred.any():
            return 0.0
        covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
        counts, means = class_means(centred, classes)
        try:
            solved = np.linalg.solve(np.linalg.cholesky(covariance), means.T)
        except np.linalg.LinAlgError:  # no shrinkage, and columns that repeat each other
            return (1 - shrinkage) * (counts / len(classes) * (means @ pinvh(covariance) * means).sum(1)).sum()
        return (1 - shrinkage) * (counts / len(classes) * (solved**2).sum(0)).sum()
