"""Unit spread: features centred and scaled by one number, so that a penalty means the same for every encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array

from ..feature_arrays import fitted_matrix

ALIKE = 1e-6  # of their length: what float32 makes of equal rows in other batches


class UnitSpread(TransformerMixin, BaseEstimator):
    r"""Features centred and divided by one number: \(z = (x - \mu)/s\), with \(s^2\) the mean of
    \(\lVert x - \mu\rVert^2\) over the training rows.

    Directions keep their proportions: of a handful of rows, the deviation of a single feature is noise, which
    `StandardScaler` would divide by. Rows that are all alike are only centred.

    Attributes:
        mean_: (d,).
        spread_: \(s\), positive.
        alike_: whether rows differ by the rounding of float32 alone.

    Example:
        >>> UnitSpread().fit_transform([[0.0, 1.0], [4.0, 1.0]])
        array([[-1.,  0.],
               [ 1.,  0.]])
    """

    def fit(self, X: ArrayLike, y: object = None) -> UnitSpread:
        """Mean and spread.

        Args:
            X: (n, d) features.

        Raises:
            ValueError: values that are not finite.
        """
        x = check_array(X, dtype=np.float64)
        self.n_features_in_ = x.shape[1]
        self.mean_ = x.mean(0)
        spread = float(np.sqrt(np.square(x - self.mean_).sum(1).mean()))
        self.alike_ = spread <= ALIKE * float(np.sqrt(np.square(x).sum(1).mean()))
        self.spread_ = 1.0 if self.alike_ else spread
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """(n, d) -> (n, d)."""
        return (fitted_matrix(self, X) - self.mean_) / self.spread_
