"""Feature arrays of two domains, checked: matrices of equal width, finite, in double precision, their columns in one
order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def feature_matrix(name: str, features: ArrayLike, fewest: int = 2) -> np.ndarray:
    """Features in double precision.

    Args:
        name: in messages.
        features: (n, d).
        fewest: rows that there must be.

    Raises:
        ValueError: no matrix of numbers, too few rows, or values that are not finite.

    Example:
        >>> feature_matrix("source_features", [[0, 1], [2, 3]]).dtype
        dtype('float64')
    """
    try:
        rows = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:  # a column of texts, lists of several lengths
        raise ValueError(f"{name} must be a matrix of numbers ({error}).") from error
    if rows.ndim != 2 or len(rows) < fewest or not rows.shape[1]:
        fewest_rows = {1: "one row", 2: "two rows"}.get(fewest, f"{fewest} rows")
        raise ValueError(f"{name} must be a matrix of at least {fewest_rows}, not of shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} are not finite: the model that made them is broken.")
    return rows


def precision_of(features: ArrayLike) -> np.dtype:
    """Precision of features as they were given: float32 where they are in that, else float64.

    Example:
        >>> precision_of(np.zeros((2, 3), np.float32)), precision_of([[0, 1], [2, 3]])
        (dtype('float32'), dtype('float64'))
    """
    given = np.asarray(features).dtype
    return given if given == np.float32 else np.dtype(np.float64)


def domain_matrices(
    source: ArrayLike, target: ArrayLike, source_name: str = "source_features", target_name: str = "target_features"
) -> tuple[np.ndarray, np.ndarray]:
    """Features of both domains in double precision.

    Args:
        source, target: (n, d) and (m, d).
        source_name, target_name: in messages.

    Raises:
        ValueError: as `feature_matrix`, with at least two rows a domain; features of different widths, or tables whose
            columns are not the same.
    """
    _check_names(target_name, column_names(target), f"{source_name} has", column_names(source))
    source, target = feature_matrix(source_name, source), feature_matrix(target_name, target)
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"{source_name} are {source.shape[1]} wide and {target_name} {target.shape[1]}: they must come from "
            "the same model."
        )
    return source, target


def column_names(features: Any) -> np.ndarray | None:
    """(d,) names of a table's columns, or `None` where they have none."""
    columns = list(getattr(features, "columns", ()))
    named = columns and all(isinstance(column, str) for column in columns)
    return np.array(columns, dtype=object) if named else None


def remember_columns(estimator: Any, features: Any, width: int) -> None:
    """Number of columns that an estimator is fitted on, and their names, as scikit-learn keeps them.

    Args:
        estimator: gets `n_features_in_`, and `feature_names_in_` where there are names.
        features: (n, d), as they were given.
        width: d.
    """
    estimator.n_features_in_ = width
    names = column_names(features)
    if names is not None:
        estimator.feature_names_in_ = names
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def fitted_matrix(estimator: Any, features: Any) -> np.ndarray:
    """Features for a fitted estimator, in double precision.

    Args:
        estimator: that has been through `remember_columns`.
        features: (rows, d), X in messages.

    Raises:
        NotFittedError: it has not.
        ValueError: as `feature_matrix`; another width, or a table with other columns.
    """
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
    rows, name = feature_matrix("X", features, fewest=1), type(estimator).__name__
    check_columns(estimator, features)
    if rows.shape[1] != estimator.n_features_in_:
        raise ValueError(f"X is {rows.shape[1]} wide, and {name} was fitted on {estimator.n_features_in_}.")
    return rows


def check_columns(estimator: Any, features: Any) -> None:
    """Check that a table has the columns that an estimator was fitted on, in their order; raises `ValueError`."""
    fitted_on = getattr(estimator, "feature_names_in_", None)
    _check_names("X", column_names(features), f"{type(estimator).__name__} was fitted on", fitted_on)


def _check_names(name: str, found: np.ndarray | None, of: str, expected: np.ndarray | None) -> None:
    if found is None or expected is None or found.tolist() == expected.tolist():
        return
    if sorted(found) == sorted(expected):
        raise ValueError(f"{name} has the columns that {of} in another order: put them in that one.")
    odd = next(iter(sorted({*found} ^ {*expected})), found[0])
    raise ValueError(f"{name} has other columns than {of}: {odd!r} is in one of them alone. Give the same columns.")
