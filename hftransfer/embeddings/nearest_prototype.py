"""Nearest prototype: a classifier by the cosine with the mean of each class, for few labels and no training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y

from .feature_arrays import check_columns, remember_columns
from .label_arrays import label_array


class NearestPrototype(ClassifierMixin, BaseEstimator):
    r"""Classifier by the nearest prototype: cosine, on centred features.

    \[f_k(x) = \cos(x - \mu,\; p_k),
        \qquad p_k = \frac{1}{n_k}\sum_{i:\,y_i = k} \frac{x_i - \mu}{\lVert x_i - \mu\rVert}\]

    with \(\mu\) the mean of the training rows. Without centring, features of pretrained models have nearly one
    direction, and cosines say little. scikit-learn's `NearestCentroid` has no cosine.

    Args:
        centre: subtract the mean of the training rows.
        linear: leave the length of \(x - \mu\) in the score, \(f_k(x) = (x - \mu)\cdot p_k\). The nearest class is the
            same one, since all classes share that length, and `export_probe` can write the scores into a model.

    Attributes:
        classes_: (K,) in order.
        prototypes_: (K, d), of length 1.
        mean_: (d,); zeros without centring.

    Paper: Wang et al., SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning, 2019.

    Example:
        >>> probe = NearestPrototype().fit([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0]], ["up", "up", "down"])
        >>> probe.predict([[2.0, 1.0]])
        array(['down'], dtype='<U4')
    """

    def __init__(self, centre: bool = True, linear: bool = False):
        self.centre = centre
        self.linear = linear

    def fit(self, X: ArrayLike, y: ArrayLike) -> NearestPrototype:
        """Prototypes of the classes.

        Args:
            X: (n, d) features.
            y: (n,) labels of at least two classes.

        Raises:
            ValueError: one class only, or values that are not finite.
        """
        x, y = check_X_y(X, y)
        y = label_array("y", y, len(x))
        check_classification_targets(y)
        self.classes_, classes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"The labels have one class, {self.classes_[0]!r}: a classifier needs two or more.")
        remember_columns(self, X, x.shape[1])
        self.mean_ = x.mean(0) if self.centre else np.zeros(x.shape[1])
        rows = normalize(x - self.mean_)
        self.prototypes_ = normalize(np.stack([rows[classes == k].mean(0) for k in range(len(self.classes_))]))
        return self

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Cosines with the prototypes, or products with `linear`, (n, K); of two classes (n,): second less first.

        Args:
            X: (n, d) features.
        """
        check_is_fitted(self)
        check_columns(self, X)
        x = check_array(X)
        if x.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        centred = x - self.mean_
        scores = (centred if self.linear else normalize(centred)) @ self.prototypes_.T
        return np.asarray(scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Class of the nearest prototype, (n,).

        Args:
            X: (n, d) features.
        """
        scores = self.decision_function(X)
        nearest = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        return np.asarray(self.classes_[nearest])
