"""Weight column: what each source row counts, read from the data beside the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..messages import nearest, shown
from .label_space import column_names
from .label_values import label_number
from .row_origins import visible

WEIGHT = "weight"  # the column's usual name
NO_COLUMN = "none"  # as a setting: a column called weight is something else
LARGEST = float(np.finfo(np.float32).max)  # batches hold float32
ROW_WEIGHT = "row_weight"  # of encoded rows
ROW_WEIGHTS = "row_weights"  # of training batches


def find_weight_column(
    setting: str | None, sources: Mapping[str, Any], others: Mapping[str, Any], columns_read: Sequence[str]
) -> str | None:
    """Name of the column that holds the weights of source rows, or `None` where no source has one.

    Args:
        setting: `weight_column`: a name, `"none"`, or `None` for `weight` where a source has it.
        sources: labelled domains by their names in messages.
        others: domains whose rows have no weights, such as the target, likewise.
        columns_read: columns that are read for something else.

    Raises:
        ValueError: a column that is named and not there, or is read for something else; or that another domain has.

    Example:
        >>> weighted = news.add_column("weight", [1.0] * len(news))
        >>> find_weight_column(None, {"source": weighted}, {"target_dataset": medical}, ["text", "label"])
        'weight'
    """
    if setting == NO_COLUMN:
        return None
    column = WEIGHT if setting is None else setting
    if column in columns_read:
        if setting is None:
            return None
        raise ValueError(f"weight_column={column!r} is read as text, image or label already: name another column.")
    columns = {name: column_names(dataset) for name, dataset in sources.items()}
    if not any(column in known for known in columns.values()):
        if setting is None:
            return None
        name, known = next(iter(columns.items()))
        raise ValueError(
            f"{name} has no column {column!r} for weight_column; its columns are "
            f"{', '.join(map(repr, visible(known)))}.{nearest(column, visible(known))}"
        )
    for name, dataset in others.items():
        if column in column_names(dataset):
            raise ValueError(
                f"{name} has a column {column!r}, and so has a source: weights are of source rows, and are not read "
                "here. Remove the column; or set weight_column to 'none' if it is no weight of rows in training."
            )
    return column


def read_weights(values: Sequence[Any], rows: Sequence[str], column: str, name: str) -> list[float]:
    """Weights of rows, checked; numbers may be written as text, as csv has them.

    Args:
        values: raw ones.
        rows: the rows' names in messages.
        column: that they are from.
        name: of the dataset.

    Raises:
        ValueError: a weight that is missing, no number, negative or not finite; the row is named.

    Example:
        >>> read_weights(["0.5", 2], ["0", "1"], "weight", "source")
        [0.5, 2.0]
    """
    weights = [label_number(value) for value in values]
    for value, weight, row in zip(values, weights, rows, strict=True):
        if weight is None or not 0 <= weight <= LARGEST:
            raise ValueError(
                f"{name} row {row}: {column!r} must be a number of at least 0, not {shown(value)}. Give each row what "
                "it counts in training; or set weight_column to 'none' if the column is something else."
            )
    return [float(weight) for weight in weights if weight is not None]


def refuse_weightless(name: str, column: str = WEIGHT) -> ValueError:
    """`ValueError` about a source whose weights are all 0."""
    return ValueError(f"{name}: {column!r} is 0 in all rows, so that none would be trained on: leave the source out.")
