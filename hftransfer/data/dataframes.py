"""DataFrames, lists of rows and dicts of columns as data sets: what Python users hold in their hands."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ..messages import shown
from .label_values import name_of

logger = logging.getLogger(__name__)
KINDS = {str: "text", bool: "a truth value", int: "a number", float: "a number", dict: "a dict", bytes: "bytes"}


def is_dict_of_columns(given: Any) -> bool:
    """Whether a dict holds columns, and not data sets by name.

    Example:
        >>> is_dict_of_columns({"text": ["good", "bad"], "label": [1, 0]})
        True
        >>> is_dict_of_columns({"news": [{"text": "good", "label": 1}]})
        False
    """
    if not isinstance(given, Mapping) or not given:
        return False
    return all(_is_sequence(part) for part in given.values()) and any(not _is_rows(part) for part in given.values())


def is_table_like(given: Any) -> bool:
    """Whether `as_dataset` takes it."""
    return is_dict_of_columns(given) or _is_rows(given) or _is_frame(given) or isinstance(given, pa.Table)


def as_dataset(given: Any, where: str, label: str | None = None, needed: Collection[str] | None = None) -> Dataset:
    """A data set of what `is_table_like` is true for. NaN in a column of text, NA and NaT are missing values; an index is
    not read; categories are their names.

    Args:
        given: a DataFrame (pandas, polars or whatever has `to_arrow`), an Arrow table, a list of dicts, or a dict of
            lists.
        where: how messages call it.
        label: a column in which numbers may stand beside text; both are names then.
        needed: columns that will be read; of all others, those that Arrow cannot hold are left aside. All, if absent.

    Raises:
        ValueError: a column twice, columns of different lengths, or values of different kinds in one.

    Example:
        >>> as_dataset([{"text": "good", "label": 1}, {"text": "bad", "label": 0}], "source").column_names
        ['text', 'label']
    """
    columns = _columns(given, where)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise ValueError(f"{where} has columns of different lengths ({sizes}): each row needs a value in each.")
    made: dict[str, Any] = {}
    for name, values in columns.items():
        wanted = needed is None or name in needed or name == label
        try:
            made[name] = _column(values, name, where, name == label)
        except ValueError as error:
            if wanted:
                raise
            logger.warning("%s: the column %r is left aside: %s", where, name, error)
    try:
        return Dataset.from_dict(made)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        _refuse_value(made, where)
        raise ValueError(
            f"{where} is no table that can be read ({str(error).splitlines()[0]}). Make each column text, numbers, "
            "lists or images, or leave it out."
        ) from error


def _refuse_value(columns: Mapping[str, Any], where: str) -> None:
    """Raises `ValueError` naming the first value that Arrow cannot hold."""
    for name, values in columns.items():
        for row, value in enumerate(values):
            try:
                Dataset.from_dict({name: [value]})
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                raise ValueError(
                    f"{where} row {row}: {name!r} is {shown(value)}, which no table can hold. Make the column text, "
                    "numbers, lists or images (text keeps numbers beyond 64 bits), or leave it out."
                ) from None


def _columns(given: Any, where: str) -> dict[str, Sequence[Any]]:
    if isinstance(given, Mapping):
        return {str(name): values for name, values in given.items()}
    if _is_rows(given):
        names = list(dict.fromkeys(name for row in given for name in row))
        return {str(name): [row.get(name) for row in given] for name in names}
    if hasattr(given, "iloc"):
        names = [str(name) for name in given.columns]
        parts: list[Any] = [_series(given.iloc[:, i]) for i in range(len(names))]
    else:
        table = given if isinstance(given, pa.Table) else given.to_arrow()
        names, parts = list(table.column_names), [column.to_pylist() for column in table.columns]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{where} has the column {twice[0]!r} twice. Rename or drop one.")
    return dict(zip(names, parts, strict=True))


def _series(series: Any) -> list[Any]:
    """The values of a pandas column as Python holds them, missing ones as `None`. Numbers that are floats only since
    one of them is missing are whole again when they become names."""
    missing = series.isna().to_numpy()
    values = series.astype(object).tolist() if hasattr(series, "cat") else series.tolist()
    return [None if gone else value for gone, value in zip(missing, values, strict=True)] if missing.any() else values


def _column(values: Any, name: str, where: str, is_label: bool) -> Any:
    """Values that Arrow can hold, of one kind."""
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
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) > 1 and float in kinds:  # NaN is how frames say that there is nothing
        others = any(not issubclass(kind, (int, float)) for kind in kinds)
        if others:
            values = [None if isinstance(v, float) and v != v else v for v in values]
            kinds = {type(value) for value in values} - {type(None)}
    scalar = all(issubclass(kind, (str, int, float)) for kind in kinds)
    groups = {_kind(kind) for kind in kinds}
    if len(groups) > 1:
        if is_label and scalar:
            return [name_of(value) for value in values]
        _refuse_mix(values, name, where)
    if groups <= {"text", "a truth value", "a number"} and scalar:
        return values
    try:
        return Dataset.from_dict({name: values}).data.column(0) if groups == {"a list"} else values
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        inner = [next((type(v) for v in value if v is not None), None) for value in values if value is not None]
        kind = inner[0] if inner else None
        odd = next((i for i, value in enumerate(values) if value and _odd(value, kind)), 0)
        raise ValueError(
            f"{where} row {odd}: {name!r} holds {shown(values[odd])}, and other rows hold lists of another kind. "
            "Make them one kind."
        ) from None


def _odd(items: Any, kind: type | None) -> bool:
    return any(item is not None and type(item) is not kind for item in items)


def _refuse_mix(values: Sequence[Any], name: str, where: str) -> None:
    """Raises `ValueError` naming the first row whose value is of another kind than most."""
    kinds = [None if value is None else _kind(type(value)) for value in values]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds) if kind is not None}
    common = max(counts, key=lambda kind: counts[kind])
    row = next(i for i, kind in enumerate(kinds) if kind not in (None, common))
    raise ValueError(
        f"{where} row {row}: {name!r} is {kinds[row]} ({shown(values[row])}), and {common} in other rows. Make the "
        "column of one kind, or leave it out."
    )


def _kind(kind: type) -> str:
    if issubclass(kind, (list, tuple, np.ndarray)):
        return "a list"
    if kind.__module__.startswith("PIL."):
        return "an image"  # of whatever format
    return next((name for known, name in KINDS.items() if issubclass(kind, known)), f"a {kind.__name__}")


def _is_sequence(part: Any) -> bool:
    if isinstance(part, (str, bytes, Mapping, Dataset, IterableDataset, pa.Table)) or _is_frame(part):
        return False
    if hasattr(part, "column_names"):  # encoded images are rows with columns of their own
        return False
    return hasattr(part, "__len__") and hasattr(part, "__getitem__")


def _is_rows(part: Any) -> bool:
    """Whether it is a list of dicts."""
    return isinstance(part, (list, tuple)) and bool(part) and all(isinstance(row, Mapping) for row in part)


def _is_frame(part: Any) -> bool:
    """Whether it is a DataFrame of pandas, polars or the like; columns alone (a Series) are not."""
    if isinstance(part, (Dataset, IterableDataset)):
        return False
    return hasattr(part, "columns") and (hasattr(part, "iloc") or hasattr(part, "to_arrow"))
