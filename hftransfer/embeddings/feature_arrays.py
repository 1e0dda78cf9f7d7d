"""Feature arrays of two domains, checked: matrices of equal width, finite, in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def feature_matrix(name: str, features: ArrayLike, fewest: int = 2) -> np.ndarray:
    """Features in double precision.

    Args:
        name: in messages.
        features: (n, d).
        fewest: rows that there must be.

    Raises:
        ValueError: no matrix, too few rows, or values that are not finite.

    Example:
        >>> feature_matrix("source_features", [[0, 1], [2, 3]]).dtype
        dtype('float64')
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < fewest or not rows.shape[1]:
        fewest_rows = {1: "one row", 2: "two rows"}.get(fewest, f"{fewest} rows")
        raise ValueError(f"{name} must be a matrix of at least {fewest_rows}, not of shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} are not finite: the model that made them is broken.")
    return rows


def domain_matrices(
    source: ArrayLike, target: ArrayLike, source_name: str = "source_features", target_name: str = "target_features"
) -> tuple[np.ndarray, np.ndarray]:
    """Features of both domains in double precision.

    Args:
        source, target: (n, d) and (m, d).
        source_name, target_name: in messages.

    Raises:
        ValueError: as `feature_matrix`, with at least two rows a domain; or features of different widths.
    """
    source, target = feature_matrix(source_name, source), feature_matrix(target_name, target)
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"{source_name} are {source.shape[1]} wide and {target_name} {target.shape[1]}: they must come from "
            "the same model."
        )
    return source, target
