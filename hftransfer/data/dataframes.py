"""Datasets from DataFrames, lists of rows and dicts of columns."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ..messages import shown
from .label_values import label_name

logger = logging.getLogger(__name__)
TYPE_NAMES = {str: "text", bool: "a truth value", int: "a number", float: "a number", dict: "a dict", bytes: "bytes"}


def is_dict_of_columns(data: Any) -> bool:
    """Whether a dict holds columns, and not data sets by name.

    Example:
        >>> is_dict_of_columns({"text": ["good", "bad"], "label": [1, 0]})
        True
        >>> is_dict_of_columns({"news": [{"text": "good", "label": 1}]})
        False
    """
    if not isinstance(data, Mapping) or not data:
        return False
    return all(_is_sequence(value) for value in data.values()) and any(not _is_rows(value) for value in data.values())


def is_table_like(data: Any) -> bool:
    """Whether `as_dataset` accepts a value."""
    return is_dict_of_columns(data) or _is_rows(data) or _is_frame(data) or isinstance(data, pa.Table)


def as_dataset(data: Any, name: str, label: str | None = None, needed: Collection[str] | None = None) -> Dataset:
    """Dataset made of a DataFrame, an Arrow table, a list of rows or a dict of columns.

    NaN in a column of text, NA and NaT are missing values; an index is not read; categories are their names.

    Args:
        data: a DataFrame (pandas, polars or whatever has `to_arrow`), an Arrow table, a list of dicts, or a dict of
            lists.
        name: of the dataset, for messages.
        label: a column in which numbers may stand beside text; both are names then.
        needed: columns that will be read; of all others, those that Arrow cannot hold are left aside. All, if absent.

    Raises:
        ValueError: a column twice, columns of different lengths, or values of different kinds in one.

    Example:
        >>> as_dataset([{"text": "good", "label": 1}, {"text": "bad", "label": 0}], "source").column_names
        ['text', 'label']
    """
    columns = _columns(data, name)
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{column!r} {length}" for column, length in lengths.items())
        raise ValueError(f"{name} has columns of different lengths ({sizes}): each row needs a value in each.")
    arrow_columns: dict[str, Any] = {}
    for column, values in columns.items():
        is_needed = needed is None or column in needed or column == label
        try:
            arrow_columns[column] = _plain_values(values, column, name, column == label)
        except ValueError as error:
            if is_needed:
                raise
            logger.warning("%s: the column %r is left aside: %s", name, column, error)
    try:
        return Dataset.from_dict(arrow_columns)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        _refuse_value(arrow_columns, name)
        raise ValueError(
            f"{name} is no table that can be read ({str(error).splitlines()[0]}). Make each column text, numbers, "
            "lists or images, or leave it out."
        ) from error


def _refuse_value(columns: Mapping[str, Any], name: str) -> None:
    """`ValueError` for the first value that Arrow cannot hold, raised."""
    for column, values in columns.items():
        for row, value in enumerate(values):
            try:
                Dataset.from_dict({column: [value]})
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                raise ValueError(
                    f"{name} row {row}: {column!r} is {shown(value)}, which no table can hold. Make the column text, "
                    "numbers, lists or images (text keeps numbers beyond 64 bits), or leave it out."
                ) from None


def _columns(data: Any, name: str) -> dict[str, Sequence[Any]]:
    """Columns by name, as sequences of values."""
    if isinstance(data, Mapping):
        return {str(column): values for column, values in data.items()}
    if _is_rows(data):
        names = list(dict.fromkeys(column for row in data for column in row))
        return {str(column): [row.get(column) for row in data] for column in names}
    if hasattr(data, "iloc"):
        names = [str(column) for column in data.columns]
        column_values: list[Any] = [_series(data.iloc[:, i]) for i in range(len(names))]
    else:
        table = data if isinstance(data, pa.Table) else data.to_arrow()
        names, column_values = list(table.column_names), [column.to_pylist() for column in table.columns]
    duplicates = [column for column in names if names.count(column) > 1]
    if duplicates:
        raise ValueError(f"{name} has the column {duplicates[0]!r} twice. Rename or drop one.")
    return dict(zip(names, column_values, strict=True))


def _series(series: Any) -> list[Any]:
    """Values of a pandas column as Python objects, missing ones as `None`.

    Numbers that are floats only since one of them is missing are whole again when they become names.
    """
    missing = series.isna().to_numpy()
    values = series.astype(object).tolist() if hasattr(series, "cat") else series.tolist()
    return (
        [None if is_missing else value for is_missing, value in zip(missing, values, strict=True)]
        if missing.any()
        else values
    )


def _plain_values(values: Any, column: str, name: str, is_label: bool) -> Any:
    """Values of one column that Arrow can hold, all of one kind."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.tolist() if values.ndim == 1 else list(values)
    values = [
        value.item()
        if isinstance(value, np.generic)
        else os.fspath(value)
        if isinstance(value, os.PathLike)
        else value
        for value in values
    ]
    types = {type(value) for value in values} - {type(None)}
    if len(types) > 1 and float in types:  # NaN is how frames say that there is nothing
        has_others = any(not issubclass(value_type, (int, float)) for value_type in types)
        if has_others:
            values = [None if isinstance(v, float) and v != v else v for v in values]
            types = {type(value) for value in values} - {type(None)}
    scalar = all(issubclass(value_type, (str, int, float)) for value_type in types)
    kinds = {_kind_name(value_type) for value_type in types}
    if len(kinds) > 1:
        if is_label and scalar:
            return [label_name(value) for value in values]
        _refuse_mix(values, column, name)
    if kinds <= {"text", "a truth value", "a number"} and scalar:
        return values
    try:
        return Dataset.from_dict({column: values}).data.column(0) if kinds == {"a list"} else values
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        item_types = [next((type(v) for v in value if v is not None), None) for value in values if value is not None]
        value_type = item_types[0] if item_types else None
        row = next((i for i, value in enumerate(values) if value and _has_other_type(value, value_type)), 0)
        raise ValueError(
            f"{name} row {row}: {column!r} holds {shown(values[row])}, and other rows hold lists of another kind. "
            "Make them one kind."
        ) from None


def _has_other_type(items: Any, item_type: type | None) -> bool:
    return any(item is not None and type(item) is not item_type for item in items)


def _refuse_mix(values: Sequence[Any], column: str, name: str) -> None:
    """`ValueError` for the first row whose value is of another kind than most, raised."""
    kinds = [None if value is None else _kind_name(type(value)) for value in values]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds) if kind is not None}
    common = max(counts, key=lambda kind: counts[kind])
    row = next(i for i, kind in enumerate(kinds) if kind not in (None, common))
    raise ValueError(
        f"{name} row {row}: {column!r} is {kinds[row]} ({shown(values[row])}), and {common} in other rows. Make the "
        "column of one kind, or leave it out."
    )


def _kind_name(value_type: type) -> str:
    if issubclass(value_type, (list, tuple, np.ndarray)):
        return "a list"
    if value_type.__module__.startswith("PIL."):
        return "an image"  # of whatever format
    return next(
        (name for known_type, name in TYPE_NAMES.items() if issubclass(value_type, known_type)),
        f"a {value_type.__name__}",
    )


def _is_sequence(value: Any) -> bool:
    if isinstance(value, (str, bytes, Mapping, Dataset, IterableDataset, pa.Table)) or _is_frame(value):
        return False
    if hasattr(value, "column_names"):  # encoded images are rows with columns of their own
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _is_rows(value: Any) -> bool:
    """Whether a value is a list of dicts."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _is_frame(value: Any) -> bool:
    """Whether a value is a DataFrame of pandas, polars or the like; columns alone (a Series) are not."""
    if isinstance(value, (Dataset, IterableDataset)):
        return False
    return hasattr(value, "columns") and (hasattr(value, "iloc") or hasattr(value, "to_arrow"))
