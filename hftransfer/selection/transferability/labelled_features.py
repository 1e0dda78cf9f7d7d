"""Labelled features: what a frozen checkpoint makes of labelled rows, the input of transferability scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...embeddings.label_arrays import label_array

FEWEST_ROWS = 4


@dataclass
class LabelledFeatures:
    """Frozen features of labelled rows, with whatever else a transferability score reads.

    Args:
        features: (n, d), of the checkpoint.
        labels: (n,) class ids or names; the classes are those that occur.
        source_probabilities: (n, C) predictions of the checkpoint's own head, over the classes that it was trained on;
            for LEEP and NCE. Rows sum to 1.
        source_features: (m, d), features of another domain's rows; for the A-distance.
        seed: of whatever a score draws.

    Attributes:
        classes: (n,) ids from 0 on of the classes that occur, in the order of their sorted labels.

    Raises:
        ValueError: arrays that do not fit each other, fewer than four rows, one class only, a label that is missing,
            or numbers that are not finite.

    Example:
        >>> rows = LabelledFeatures(np.eye(4), ["up", "down", "up", "down"])
        >>> rows.classes
        array([1, 0, 1, 0])
    """

    features: Any
    labels: Any
    source_probabilities: Any = None
    source_features: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        self.features = finite_matrix("features", self.features)
        rows, width = self.features.shape
        if rows < FEWEST_ROWS:
            raise ValueError(f"features has {rows} rows; a score needs {FEWEST_ROWS} at least.")
        self.labels = np.asarray(self.labels)
        if self.labels.shape != (rows,):
            raise ValueError(f"labels has shape {self.labels.shape} where features has {rows} rows.")
        self.classes = class_ids(self.labels)
        if self.source_probabilities is not None:
            self.source_probabilities = _probabilities(self.source_probabilities, rows)
        if self.source_features is not None:
            self.source_features = finite_matrix("source_features", self.source_features)
            if self.source_features.shape[1] != width:
                raise ValueError(
                    f"source_features are {self.source_features.shape[1]} wide and features {width}: they must come "
                    "from the same model."
                )


def class_ids(labels: np.ndarray) -> np.ndarray:
    """(n,) ids from 0 on of the classes that occur; raises `ValueError` for one class, or a missing label."""
    names, ids = np.unique(label_array("labels", labels, len(labels)), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"labels holds one class only ({names[0]}): there is nothing to tell apart.")
    return ids.reshape(-1)


def finite_matrix(name: str, values: Any) -> np.ndarray:
    """(n, d) in double precision; raises `ValueError` for another shape and for numbers that are not finite."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} must be a matrix of at least one row and one column, not of shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(1))[0])
        raise ValueError(f"{name} is not finite in row {row}: the model that made it is broken.")
    return matrix


def _probabilities(values: Any, rows: int) -> np.ndarray:
    probabilities = finite_matrix("source_probabilities", values)
    if len(probabilities) != rows:
        raise ValueError(f"source_probabilities has {len(probabilities)} rows where features has {rows}.")
    if (probabilities < 0).any() or np.abs(probabilities.sum(1) - 1).max() > 1e-3:
        raise ValueError("source_probabilities must be probabilities: apply a softmax, so that each row sums to 1.")
    return probabilities
