"""Correlation alignment (CORAL) of features: the source is given the target's mean and covariance."""

from __future__ import annotations

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from ...setting_ranges import FROM_ZERO
from .feature_adapter import FeatureAdapter


class CorrelationAlignment(OneToOneFeatureMixin, FeatureAdapter):
    r"""Correlation alignment (CORAL): source features whitened, and coloured as the target's are.

    \[x \mapsto (x - \bar s)\, \tilde C_S^{-1/2}\, \tilde C_T^{1/2} + \bar t, \qquad
      \tilde C = C + \lambda\,\tfrac{\operatorname{tr} C}{d}\, I\]

    Target rows stay as they are. The paper standardises the features of each domain and adds λ = 1 to the diagonal;
    here λ counts in units of the mean variance, which is the same on standardised features and means the same on any
    other scale. Covariances divide by n − 1. Cost: two eigenvalue decompositions, O(d³).

    Args:
        regularization: λ, above 0 where a domain has fewer rows than columns or a constant column.

    Attributes:
        source_mean_, target_mean_: (d,).
        map_: (d, d), what centred source rows are multiplied by.

    Raises:
        ValueError: see `FeatureAdapter.fit`; a λ that is negative, or too small for a covariance without full rank.

    Paper: Sun, Feng and Saenko, Return of Frustratingly Easy Domain Adaptation, AAAI 2016.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> source, target = draw.normal(size=(200, 2)), [5.0, 0.0] + draw.normal(size=(300, 2)) * [3.0, 1.0]
        >>> aligned = CorrelationAlignment(regularization=0.0).fit_transform(source, target=target)
        >>> bool(np.allclose(np.cov(aligned.T), np.cov(target.T)))
        True
    """

    def __init__(self, regularization: float = 1.0):
        self.regularization = regularization

    def _fit(self, source: np.ndarray, y: np.ndarray | None, target: np.ndarray) -> None:
        strength = FROM_ZERO.read("regularization", self.regularization)
        self.source_mean_, self.target_mean_ = source.mean(0), target.mean(0)
        self.map_ = _power("X", source, strength, -0.5) @ _power("target", target, strength, 0.5)

    def _map_source(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.source_mean_) @ self.map_ + self.target_mean_


def _power(name: str, rows: np.ndarray, strength: float, exponent: float) -> np.ndarray:
    """Power of a regularised covariance, (d, d)."""
    covariance = np.cov(rows, rowvar=False).reshape(rows.shape[1], -1)
    ridge = strength * np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0) + ridge
    if exponent < 0 and values.min() <= values.max() * len(values) * np.finfo(np.float64).eps:
        raise ValueError(
            f"The covariance of {name} has no full rank, with {len(rows)} rows of {len(values)} columns: raise "
            f"regularization ({strength:g}), or leave constant columns out."
        )
    return (vectors * values**exponent) @ vectors.T
