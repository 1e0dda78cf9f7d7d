"""Labelled rows of a classifier: their inputs and their labels, each row with one."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.utils.multiclass import check_classification_targets

from ...data.domain_arguments import as_domain
from ...data.label_space import declared_names
from ...data.label_values import label_number
from ...data.row_classes import row_classes
from ...messages import shown
from ..label_arrays import check_one_kind, is_missing

logger = logging.getLogger(__name__)
SOURCE = "source"  # what messages call them


def labelled_rows(rows: Any, y: Any, column: str | None = None, data: str = SOURCE) -> tuple[Any, np.ndarray]:
    """Labelled rows and their labels, checked.

    Args:
        rows: as `FewShotClassifier.fit` takes them.
        y: labels, or the column that holds them, whose empty rows are left out.
        column: with the inputs; found when `None`.
        data: what messages call them.

    Raises:
        TypeError: a column of what has none.
        ValueError: no rows, no such column, no label at all, a label that is missing, or labels that are no classes.

    Example:
        >>> rows, labels = labelled_rows({"text": ["w1", "w2", "w3"], "label": ["up", None, "down"]}, "label")
        >>> rows["text"][:], labels.tolist()
        (['w1', 'w3'], ['up', 'down'])
    """
    if isinstance(y, str):
        rows = as_domain(rows, data, y, None if column is None else {y, column})
        if not isinstance(rows, Dataset):
            raise ValueError(f"{data} is a stream: read some first, `Dataset.from_list(list(stream.take(100)))`.")
        names = row_classes(rows, y, data)
        kept = [row for row, name in enumerate(names) if name is not None]
        if not kept:
            raise ValueError(f"{data}: {y!r} is empty throughout, and a few rows of each class must have a label.")
        numbers = [label_number(name) for name in names if name is not None]
        amount = next((n for n in numbers if n is not None and not n.is_integer()), None)
        if amount is not None and None not in numbers and declared_names(rows, y) is None:
            raise ValueError(
                f"{data}: {y!r} holds numbers that are not whole, such as {amount}, which are amounts and no classes. "
                "Write classes as names or as whole numbers."
            )
        if len(kept) < len(names):
            logger.info("%s: %s of %s rows have a label; the others are left out.", data, len(kept), len(names))
        return rows.select(kept).remove_columns(y), np.array([names[row] for row in kept])
    values = y.tolist() if isinstance(y, np.ndarray) else list(y)
    if not values:
        raise ValueError(f"{data} is empty: give a few labelled rows of each class.")
    for row, value in enumerate(values):
        if np.ndim(value):
            raise ValueError(f"{data} row {row}: its label is {shown(value)}; one class a row is needed.")
        if is_missing(value):
            raise ValueError(f"{data} row {row} has no label: pass the labelled rows alone.")
    check_one_kind(data, values)
    labels = np.array(values)
    check_classification_targets(labels)
    return rows, labels
