"""Subspace alignment of features: principal components of the source turned to those of the target."""

from __future__ import annotations

from numbers import Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin

from .feature_adapter import FeatureAdapter


class SubspaceAlignment(ClassNamePrefixFeaturesOutMixin, FeatureAdapter):
    r"""Subspace alignment: each domain in its own principal components, the source's turned to the target's.

    \[s \mapsto (s - \bar s)\, P_S\, P_S^\top P_T, \qquad t \mapsto (t - \bar t)\, P_T\]

    P are the first k principal components of a domain, (d, k). Both domains come out k wide. With all components
    nothing is aligned but the means: only what is left out tells the subspaces apart. Cost: two principal component
    analyses.

    Args:
        components: k; or, between 0 and 1, the share of the variance of each domain that is kept, of which the
            larger k counts.

    Attributes:
        source_mean_, target_mean_: (d,).
        source_components_, target_components_: P, (d, k).

    Raises:
        ValueError: see `FeatureAdapter.fit`; more components than rows or columns, or a domain without variance.

    Paper: Fernando, Habrard, Sebban and Tuytelaars, Unsupervised Visual Domain Adaptation Using Subspace Alignment,
    ICCV 2013.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> source, target = draw.normal(size=(200, 8)), draw.normal(size=(300, 8))
        >>> SubspaceAlignment(components=3).fit(source, target=target).transform(target).shape
        (300, 3)
    """

    def __init__(self, components: int | float = 0.9):
        self.components = components

    def _fit(self, source: np.ndarray, y: np.ndarray | None, target: np.ndarray) -> None:
        (self.source_mean_, source_axes, source_variances) = _principal_axes("X", source)
        (self.target_mean_, target_axes, target_variances) = _principal_axes("target", target)
        most = min(len(source_variances), len(target_variances))
        k = self._number(source_variances, target_variances)
        if not 1 <= k <= most:
            raise ValueError(
                f"components={self.components!r} must be between 1 and {most}, as these rows and columns allow, or a "
                "share of the variance between 0 and 1."
            )
        self.source_components_, self.target_components_ = source_axes[:, :k], target_axes[:, :k]
        self._n_features_out = k  # for the names of columns

    def _number(self, *variances: np.ndarray) -> int:
        if isinstance(self.components, bool) or not isinstance(self.components, Real):
            return 0
        if 0 < self.components < 1:
            shares = [values.cumsum() / values.sum() for values in variances]
            wanted = max(int(np.searchsorted(share, self.components)) + 1 for share in shares)
            return min(wanted, *(len(values) for values in variances))
        return int(self.components) if float(self.components).is_integer() else 0

    def _map_source(self, rows: np.ndarray) -> np.ndarray:
        turned = self.source_components_ @ (self.source_components_.T @ self.target_components_)
        return (rows - self.source_mean_) @ turned

    def _map_target(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.target_mean_) @ self.target_components_


def _principal_axes(name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), axes (d, r) and variances (r,) along them, largest first, r the rank at most."""
    mean = rows.mean(0)
    _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
    rank = int((values > values.max() * max(rows.shape) * np.finfo(np.float64).eps).sum())
    if not rank:
        raise ValueError(f"All rows of {name} are the same: there are no components to align.")
    return mean, axes[:rank].T, values[:rank] ** 2
