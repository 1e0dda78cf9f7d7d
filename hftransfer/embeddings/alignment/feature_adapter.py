"""Feature adapter: the scikit-learn interface of what maps the features of two domains onto each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin

from ...settings import read_choice
from ..feature_arrays import domain_matrices, fitted_matrix, precision_of, remember_columns

Domain = Literal["source", "target"]
MISSING_TARGET = (
    "{name} needs rows of the target: fit(X, y, target=X_target). In a Pipeline whose step is called 'align': "
    "fit(X, y, align__target=X_target)."
)


class FeatureAdapter(TransformerMixin, BaseEstimator, ABC):
    """Base of transformers that are fitted on source and target rows, and map rows of either.

    Rows of the source are `X`; rows of the target come to `fit` as `target`. They are data, no setting: in the
    constructor, `clone` would copy them and a search print them. So `fit` asks for them by name, which a `Pipeline`
    passes on, with scikit-learn's metadata routing or without.

    `fit_transform` maps source rows, and `transform` maps target rows unless told otherwise. That is what a `Pipeline`
    does with them: it fits its classifier on mapped source rows and predicts mapped target rows.

    A subclass has `_fit`, `_map_source` and `_map_target`, all on checked matrices.
    """

    __metadata_request__fit = {"target": True}  # noqa: RUF012  scikit-learn's way to ask for it by default

    n_features_in_: int

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, target: ArrayLike | None = None) -> Any:
        """Fits the mapping.

        Args:
            X: (n, d) source rows.
            y: (n,) their labels, for methods that read them.
            target: (m, d) target rows, without labels.

        Raises:
            ValueError: no target rows, fewer than two of a domain, other widths, or values that are not finite.
        """
        source_rows, target_rows = domain_matrices(X, asked_target(target, self), "X", "target")
        remember_columns(self, X, source_rows.shape[1])
        self._fit(source_rows, None if y is None else np.asarray(y), target_rows)
        return self

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None, target: ArrayLike | None = None) -> Any:
        """Fits the mapping, and maps the source rows: (n, d) -> (n, k)."""
        return self.fit(X, y, target).transform(X, domain="source")

    def transform(self, X: ArrayLike, domain: Domain = "target") -> Any:
        """Rows mapped to the features that both domains share.

        Args:
            X: (rows, d).
            domain: which the rows are of, `"source"` or `"target"`.

        Returns:
            (rows, k) array in float32 where X is, else in float64; or what `set_output` asks for.

        Raises:
            ValueError: rows of another width, not finite, a table with other columns, or another domain.
            NotFittedError: before `fit`.
        """
        rows = fitted_matrix(self, X)
        is_source = read_choice("domain", domain, Domain) == "source"
        mapped = self._map_source(rows) if is_source else self._map_target(rows)
        return mapped.astype(precision_of(X), copy=False)

    @abstractmethod
    def _fit(self, source: np.ndarray, y: np.ndarray | None, target: np.ndarray) -> None:
        """Fits the mapping to checked matrices."""

    @abstractmethod
    def _map_source(self, rows: np.ndarray) -> np.ndarray:
        """Checked source rows, mapped."""

    def _map_target(self, rows: np.ndarray) -> np.ndarray:
        return rows


def asked_target(target: ArrayLike | None, estimator: Any) -> ArrayLike:
    """Target rows that an estimator was given; raises `ValueError` where there are none."""
    if target is None:
        raise ValueError(MISSING_TARGET.format(name=type(estimator).__name__))
    return target
