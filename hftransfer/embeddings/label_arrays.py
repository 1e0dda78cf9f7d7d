"""Label arrays of estimators, checked: one label a row, none missing, all of one kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def label_array(name: str, labels: ArrayLike, rows: int) -> np.ndarray:
    """Labels of rows.

    Args:
        name: in messages.
        labels: (rows,).
        rows: how many there must be.

    Raises:
        ValueError: another number of labels, a label that is missing, or texts beside numbers.

    Example:
        >>> label_array("y", ["up", "down"], 2)
        array(['up', 'down'], dtype='<U4')
    """
    if np.shape(labels) != (rows,):
        raise ValueError(f"{name} must be {rows} labels, one a row, not of shape {np.shape(labels)}.")
    values = np.asarray(labels, dtype=object).tolist()
    missing = next((row for row, value in enumerate(values) if is_missing(value)), None)
    if missing is not None:
        raise ValueError(f"{name} has none in row {missing}. Leave out rows without a label.")
    check_one_kind(name, values)
    return np.asarray(labels)


def is_missing(label: Any) -> bool:
    """Whether a label is none: `None`, NaN, or what pandas writes for it."""
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA
        return True


def check_one_kind(name: str, labels: Iterable[Any]) -> None:
    """Check that labels are all texts, or all numbers: NumPy would turn numbers beside texts into texts.

    Raises:
        ValueError: they are not.
    """
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(f"{name}: some labels are texts and some are numbers. Write all in one way.")
