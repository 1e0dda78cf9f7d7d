"""Inference of the task from a label column: lists, numbers or names, as they are or written as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..messages import shown
from .label_space import LabelEncoder, LabelSpace, Task, column_names, declared_names, missing_label_error
from .label_values import (
    DECIMAL_COMMA,
    NOT_FINITE,
    LabelColumn,
    has_parts,
    in_brackets,
    label_name,
    label_number,
    literal_list,
    read_labels,
    recurring_separator,
    row_name,
    split_by,
)

MISTAKES = 0.1  # so few texts among fractional numbers are mistakes, not names


@dataclass(frozen=True)
class DatasetLabels:
    """Labels of one dataset, as they were read.

    Args:
        name: of the dataset, for messages.
        dataset: it.
        declared: names of its `ClassLabel`.
        column: what stands in its label column; `None` of a stream.
    """

    name: str
    dataset: Any
    declared: tuple[str, ...] | None
    column: LabelColumn | None

    def row_name(self, row: int) -> str:
        return f"{self.name} row {row_name(self.dataset, row)}"

    def encoder(self, space: LabelSpace, label_column: str) -> LabelEncoder:
        return LabelEncoder(space, self.declared, self.name, column=label_column)


def infer_task(dataset: Any, label_column: str, tokens_column: str, name: str, separator: str | None = None) -> Task:
    """Task of a run, inferred from the label column of a dataset.

    A list beside `tokens` is tagging, another list multi-label, numbers that are not all whole regression, anything
    else one label a row. Lists and numbers may be written as text. A stream is judged by its first row.
    """
    return task_of(read_dataset_labels(name, dataset, label_column), label_column, tokens_column, separator)


def read_dataset_labels(name: str, dataset: Any, label_column: str) -> DatasetLabels:
    """Labels of one dataset; the column of a stream is not read."""
    is_stream = not hasattr(dataset, "__len__")
    column = None if is_stream else read_labels(dataset, label_column, name)
    return DatasetLabels(name, dataset, declared_names(dataset, label_column), column)


def task_of(labels: DatasetLabels, label_column: str, tokens_column: str, separator: str | None) -> Task:
    """Task that the labels of a dataset suggest, as in `infer_task`."""
    lists: Task = (
        "token-classification" if tokens_column in column_names(labels.dataset) else "multi-label-classification"
    )
    if separator is not None:
        return "multi-label-classification"
    column = labels.column
    if column is None:
        return _task_of_stream(labels, label_column, lists)
    if column.widths is not None:
        return lists
    if not column.values:
        raise missing_label_error(labels.name, row_name(labels.dataset, column.missing or 0), label_column)
    if labels.declared:
        return "sequence-classification"
    if column.texts and _writes_lists(labels, label_column):
        return lists
    if _writes_numbers(labels, label_column):
        return "regression"
    _check_separator(labels, label_column)
    return "sequence-classification"


def _task_of_stream(labels: DatasetLabels, label_column: str, lists: Task) -> Task:
    value = next(iter(labels.dataset))[label_column]
    if isinstance(value, (list, tuple)) or (isinstance(value, str) and literal_list(value) is not None):
        return lists
    number = None if labels.declared else label_number(value)
    if number is not None and not number.is_integer():
        return "regression"
    if label_name(value) is None:
        raise missing_label_error(labels.name, 0, label_column)
    return "sequence-classification"


def _writes_lists(labels: DatasetLabels, label_column: str) -> bool:
    """Whether texts are lists; raises `ValueError` where some are, or where they are lists that cannot be read."""
    column = labels.column
    assert column is not None
    readable = [literal_list(text) is not None for text in column.values]
    if all(readable):
        return True
    bracketed = all(map(in_brackets, column.values)) and any(map(has_parts, column.values))
    if not any(readable) and not bracketed:
        return False
    first_odd = next(
        i
        for i, is_readable in enumerate(readable)
        if not is_readable and (any(readable) or has_parts(column.values[i]))
    )
    raise ValueError(
        f"{labels.row_name(column.rows[first_odd])}: {label_column!r} is {shown(column.values[first_odd])}, no list "
        "as JSON or Python write it, with commas between the items and texts in quotes"
        f"{', and other rows hold lists' if any(readable) else ''}. Fix the row, or set "
        "`task: sequence-classification` if each text is one class."
    )


def _writes_numbers(labels: DatasetLabels, label_column: str) -> bool:
    """Whether all values are numbers and not all are whole.

    Raises `ValueError` for decimal commas, and for few texts among such numbers.
    """
    column = labels.column
    assert column is not None
    numbers = [label_number(value) for value in column.values]
    odd_indices = [
        i
        for i, (number, value) in enumerate(zip(numbers, column.values, strict=True))
        if number is None and str(value).strip().lstrip("+-").lower() not in NOT_FINITE
    ]
    commas = [i for i in odd_indices if DECIMAL_COMMA.fullmatch(str(column.values[i]).strip())]
    if odd_indices and commas == odd_indices:
        first_odd = min(commas, key=lambda i: column.rows[i])
        raise ValueError(
            f"{labels.row_name(column.rows[first_odd])}: {label_column!r} is {shown(column.values[first_odd])}, a "
            "number with a decimal comma. Write it with a point; if it is two labels, say so with `label_separator`, "
            "and if it is one class, with `task: sequence-classification`."
        )
    if not any(number is not None and not number.is_integer() for number in numbers):
        return False
    odd_rows = sum(column.counts[i] for i in odd_indices)
    if odd_indices and odd_rows <= MISTAKES * sum(column.counts):
        first_odd = min(odd_indices, key=lambda i: column.rows[i])
        raise ValueError(
            f"{labels.row_name(column.rows[first_odd])}: {label_column!r} is {shown(column.values[first_odd])}, and "
            "nearly all other rows hold numbers. Fix the row; if they are classes, set `task: "
            "sequence-classification`."
        )
    return not odd_indices


def _check_separator(labels: DatasetLabels, label_column: str) -> None:
    """Check for a text that seems to hold several labels; raises `ValueError`."""
    column = labels.column
    assert column is not None
    separator = recurring_separator([str(value) for value in column.values]) if column.texts else None
    if separator is not None:
        value = next(text for text in column.values if len(split_by(text, separator)) > 1)
        raise ValueError(
            f"{labels.row_name(column.first_row(value))}: is {shown(value)} in {label_column!r} one class or several? "
            f"Set `label_separator: {separator!r}` if it is several, `task: sequence-classification` if it is one."
        )
