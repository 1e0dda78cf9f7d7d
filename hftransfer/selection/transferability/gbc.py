"""GBC: Gaussian Bhattacharyya coefficient."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .class_moments import class_means
from .transferability_score import TransferabilityScore

SMALLEST = 1e-9  # variance, as a share of the mean one


class GBC(TransferabilityScore):
    r"""Gaussian Bhattacharyya coefficient, how much the classes overlap as Gaussians.

    \[-\sum_{i<j} e^{-D_B(i,j)}, \qquad D_B(i,j) = \frac18\sum_k\frac{(\mu_{ik}-\mu_{jk})^2}{s_k}
      + \frac12\sum_k\log\frac{s_k}{\sqrt{v_{ik}v_{jk}}}, \quad s_k = \frac{v_{ik}+v_{jk}}{2}\]

    of means μ and variances v of each class, after a projection on the first principal components. 0 where no two
    classes overlap, -K(K-1)/2 where all are the same. A class of one row has the mean variance within classes. The
    authors' code counts the second sum of `"spherical"` once where all components have it.

    Args:
        components: how many, at most.
        variances: `"spherical"`, one a class, or `"diagonal"`, one a component and class.

    Paper: Pándy et al., Transferability Estimation using Bhattacharyya Class Separability, CVPR 2022.
    """

    name = "gbc"
    paper = "Pándy et al., Bhattacharyya Class Separability, CVPR 2022"

    def __init__(self, components: int = 64, variances: Literal["spherical", "diagonal"] = "spherical"):
        if components < 1:
            raise ValueError(f"components={components} must be at least 1.")
        if variances not in ("spherical", "diagonal"):
            raise ValueError(f"variances={variances!r} must be 'spherical' or 'diagonal'.")
        self.components, self.variances = components, variances

    def compute(self, features: np.ndarray, classes: np.ndarray) -> float:
        rows = _principal_components(features, self.components)
        counts, means = class_means(rows, classes)
        spread = (rows - means[classes]) ** 2
        pooled = spread.mean(0)
        variances = np.where(counts[:, None] > 1, class_means(spread, classes)[1], pooled)  # (K, k)
        if self.variances == "spherical":
            variances = np.repeat(variances.mean(1, keepdims=True), rows.shape[1], axis=1)
        floor = SMALLEST * rows.var(0).mean()
        if not floor:  # constant features: all classes are the same
            return -len(counts) * (len(counts) - 1) / 2
        variances = np.maximum(variances, floor)
        first, second = np.triu_indices(len(counts), 1)
        between = (variances[first] + variances[second]) / 2
        distance = ((means[first] - means[second]) ** 2 / between).sum(1) / 8
        distance += 0.5 * np.log(between / np.sqrt(variances[first] * variances[second])).sum(1)
        return -np.exp(-distance).sum()


def _principal_components(features: np.ndarray, count: int) -> np.ndarray:
    """(n, d) -> (n, k), k at most `count`, n and d."""
    from scipy.linalg import eigh

    centred = features - features.mean(0)
    rows, width = centred.shape
    count = min(count, rows, width)
    if width <= rows:
        _, axes = eigh(centred.T @ centred, subset_by_index=[width - count, width - 1])
        return centred @ axes
    values, vectors = eigh(centred @ centred.T, subset_by_index=[rows - count, rows - 1])
    return vectors * np.sqrt(np.maximum(values, 0.0))
