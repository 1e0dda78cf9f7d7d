"""The task of a run, read off a label column: lists, numbers or names, as they are or written as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..messages import shown
from .label_space import LabelEncoder, LabelSpace, Task, column_names, declared_names, no_label
from .label_values import (
    DECIMAL_COMMA,
    NOT_FINITE,
    LabelColumn,
    has_parts,
    in_brackets,
    literal_list,
    name_of,
    number_of,
    read_labels,
    recurring_separator,
    row_of,
    split_by,
)

MISTAKES = 0.1  # so few texts among fractional numbers are mistakes, not names


@dataclass(frozen=True)
class DatasetLabels:
    """One data set's labels, as they were read.

    Args:
        where: how messages call the data set.
        dataset: it.
        declared: names of its `ClassLabel`.
        column: what stands in its label column; `None` of a stream.
    """

    where: str
    dataset: Any
    declared: tuple[str, ...] | None
    column: LabelColumn | None

    def at(self, row: int) -> str:
        return f"{self.where} row {row_of(self.dataset, row)}"

    def encoder(self, space: LabelSpace, label_column: str) -> LabelEncoder:
        return LabelEncoder(space, self.declared, self.where, column=label_column)


def infer_task(dataset: Any, label_column: str, tokens_column: str, where: str, separator: str | None = None) -> Task:
    """Guesses the task: a list beside `tokens` is tagging, another list multi-label, numbers that are not all whole
    regression, anything else one label a row. Lists and numbers may be written as text. A stream is judged by its
    first row."""
    return task_of(read_dataset_labels(where, dataset, label_column), label_column, tokens_column, separator)


def read_dataset_labels(where: str, dataset: Any, label_column: str) -> DatasetLabels:
    streams = not hasattr(dataset, "__len__")
    column = None if streams else read_labels(dataset, label_column, where)
    return DatasetLabels(where, dataset, declared_names(dataset, label_column), column)


def task_of(labels: DatasetLabels, label_column: str, tokens_column: str, separator: str | None) -> Task:
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
        raise no_label(labels.where, row_of(labels.dataset, column.missing or 0), label_column)
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
    number = None if labels.declared else number_of(value)
    if number is not None and not number.is_integer():
        return "regression"
    if name_of(value) is None:
        raise no_label(labels.where, 0, label_column)
    return "sequence-classification"


def _writes_lists(labels: DatasetLabels, label_column: str) -> bool:
    """Whether texts are lists; raises where some are, or where they are like lists that cannot be read."""
    column = labels.column
    assert column is not None
    readable = [literal_list(text) is not None for text in column.values]
    if all(readable):
        return True
    bracketed = all(map(in_brackets, column.values)) and any(map(has_parts, column.values))
    if not any(readable) and not bracketed:
        return False
    odd = next(i for i, ok in enumerate(readable) if not ok and (any(readable) or has_parts(column.values[i])))
    raise ValueError(
        f"{labels.at(column.rows[odd])}: {label_column!r} is {shown(column.values[odd])}, no list as JSON or "
        "Python write it, with commas between the items and texts in quotes"
        f"{', and other rows hold lists' if any(readable) else ''}. Fix the row, or set "
        "`task: sequence-classification` if each text is one class."
    )


def _writes_numbers(labels: DatasetLabels, label_column: str) -> bool:
    """Whether all are numbers and not all are whole; raises for decimal commas, and for few texts among such."""
    column = labels.column
    assert column is not None
    numbers = [number_of(value) for value in column.values]
    odd = [
        i
        for i, (n, value) in enumerate(zip(numbers, column.values, strict=True))
        if n is None and str(value).strip().lstrip("+-").lower() not in NOT_FINITE
    ]
    commas = [i for i in odd if DECIMAL_COMMA.fullmatch(str(column.values[i]).strip())]
    if odd and commas == odd:
        place = min(commas, key=lambda i: column.rows[i])
        raise ValueError(
            f"{labels.at(column.rows[place])}: {label_column!r} is {shown(column.values[place])}, a number with a "
            "decimal comma. Write it with a point; if it is two labels, say so with `label_separator`, and if it is "
            "one class, with `task: sequence-classification`."
        )
    if not any(n is not None and not n.is_integer() for n in numbers):
        return False
    rest = sum(column.counts[i] for i in odd)
    if odd and rest <= MISTAKES * sum(column.counts):
        place = min(odd, key=lambda i: column.rows[i])
        raise ValueError(
            f"{labels.at(column.rows[place])}: {label_column!r} is {shown(column.values[place])}, and nearly all "
            "other rows hold numbers. Fix the row; if they are classes, set `task: sequence-classification`."
        )
    return not odd


def _check_separator(labels: DatasetLabels, label_column: str) -> None:
    """Raises `ValueError` where a text seems to hold several labels."""
    column = labels.column
    assert column is not None
    separator = recurring_separator([str(value) for value in column.values]) if column.texts else None
    if separator is not None:
        value = next(v for v in column.values if len(split_by(v, separator)) > 1)
        raise ValueError(
            f"{labels.at(column.row_of(value))}: is {shown(value)} in {label_column!r} one class or several? Set "
            f"`label_separator: {separator!r}` if it is several, `task: sequence-classification` if it is one."
        )
