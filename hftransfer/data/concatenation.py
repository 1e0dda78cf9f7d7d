"""Concatenation of the files of one split, with a check that columns agree and that no table is there twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .row_origins import ORIGIN, visible

PLAIN_TYPES = ("int", "uint", "float", "string", "large_string")  # types that may stand beside each other


def concatenated(tables: Sequence[tuple[Path, Any]], name: str) -> Any:
    """Concatenation of the datasets of several files, which must have the same columns, in any order.

    Text beside numbers makes text of both, as csv beside jsonl has it.

    Raises:
        ValueError: other columns or types in one file than in another, or the same rows in two; both are named.
    """
    from datasets import Features, concatenate_datasets

    (first, base), *other_tables = tables
    columns = visible(base.column_names)
    for path, table in other_tables:
        table_columns = visible(table.column_names)
        if set(table_columns) != set(columns):
            raise ValueError(
                f"{name}: {str(first)!r} has the columns {', '.join(map(repr, columns))} and {str(path)!r} has "
                f"{', '.join(map(repr, table_columns))}. Files of one split need the same columns: give one of them "
                "alone, move the other away, or name the files by split."
            )
    _refuse_duplicate_tables(tables, name)
    if not other_tables:
        return base
    order = [*columns, ORIGIN] if ORIGIN in base.column_names else columns
    common_features: dict[str, Any] = {}
    for column in order:
        features = [table.features[column] for _, table in tables]
        common_features[column] = _common_feature(features)
        if common_features[column] is None:
            odd_path = next(
                path for (path, _), feature in zip(tables, features, strict=True) if feature != features[0]
            )
            raise ValueError(
                f"{name}: {column!r} is of another kind in {str(odd_path)!r} than in {str(first)!r}. Write both files "
                "the same way."
            )
    joint_features = Features(common_features)
    return concatenate_datasets([_cast(table.select_columns(order), joint_features) for _, table in tables])


def _cast(dataset: Any, features: Any) -> Any:
    """Dataset with other features, cast in one go, as tables in memory can be."""
    from datasets import Dataset, DatasetInfo

    if dataset.features == features:
        return dataset
    table = dataset.with_format("arrow")[:].cast(features.arrow_schema)
    return Dataset(table, info=DatasetInfo(features=features))


def _common_feature(features: Sequence[Any]) -> Any | None:
    """Feature type that holds the values of several, or `None`.

    Numbers widen; numbers beside text become text.
    """
    from datasets import Value

    typed = [feature for feature in features if getattr(feature, "dtype", None) != "null"] or list(features)
    if all(feature == typed[0] for feature in typed):
        return typed[0]
    dtypes = {feature.dtype if isinstance(feature, Value) else "" for feature in typed}
    if all(feature.startswith(("int", "uint")) for feature in dtypes):
        return Value("int64")
    if all(feature.startswith(("int", "uint", "float")) for feature in dtypes):
        return Value("float64")
    return Value("string") if all(feature.startswith(PLAIN_TYPES) for feature in dtypes) else None


def _refuse_duplicate_tables(tables: Sequence[tuple[Path, Any]], name: str) -> None:
    """Check for one table in two files, whose rows would count twice; raises `ValueError`.

    Such as train.csv beside train.jsonl.
    """
    for i, (path, table) in enumerate(tables):
        for other_path, other_table in tables[:i]:
            if len(other_table) == len(table) > 1 and all(
                _have_same_rows(other_table, table, n) for n in (slice(0, 3), slice(None))
            ):
                raise ValueError(
                    f"{name}: {str(other_path)!r} and {str(path)!r} hold the same rows. Remove one of them, or give "
                    "the one to read instead of the folder."
                )


def _have_same_rows(one: Any, other: Any, rows: slice) -> bool:
    """Whether two datasets hold equal values in the chosen rows."""
    columns = [column for column in visible(one.column_names) if not hasattr(one.features[column], "decode")]
    if len(columns) < len(visible(one.column_names)):
        return False  # images were compared by path already
    values, other_values = one[rows], other[rows]
    return all(
        [str(value) for value in values[column]] == [str(value) for value in other_values[column]]
        for column in columns
    )
