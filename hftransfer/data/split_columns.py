"""Split columns, such as `split` or `is_valid`, which say that rows to train on belong to another split."""

from __future__ import annotations

from typing import Any

from ..messages import shown
from .column_arrays import arrow_column
from .row_origins import visible
from .split_names import split_of

NAMES = frozenset("split splitname datasplit datasetsplit subset partition phase".split())
FLAGS = {  # what a column of yes and no says of a row, and whether the rows that say yes are trained on
    **dict.fromkeys(("istest", "isvalid", "isvalidation", "isval", "isdev", "isholdout"), False),
    **dict.fromkeys(("istrain", "istraining"), True),
}
YES, NO = frozenset(("true", "1", "yes")), frozenset(("false", "0", "no"))


def refuse_rows_of_other_splits(train: Any, name: str) -> None:
    """Check for a column by which some rows to train on are of another split; raises `ValueError`.

    Args:
        train: a dataset; a stream is not looked at.
        name: of the domain, for messages.

    Example:
        >>> train = Dataset.from_dict({"text": ["a", "b"], "split": ["train", "Test"]})
        >>> refuse_rows_of_other_splits(train, "source 'a.csv'")
        Traceback (most recent call last):
        ValueError: source 'a.csv': the column 'split' says 'Test' in 1 rows, ...
    """
    if not hasattr(train, "__len__"):
        return
    for column in visible(train.column_names):
        plain_name = "".join(filter(str.isalnum, column.casefold()))
        if plain_name not in NAMES and plain_name not in FLAGS:
            continue
        counts = _value_counts(train, column)
        other_splits = (
            _other_split_values(counts)
            if plain_name in NAMES
            else _flag_values_outside_train(counts, FLAGS[plain_name])
        )
        if other_splits:
            raise ValueError(
                f"{name}: the column {column!r} says {shown(other_splits[0])} in {counts[other_splits[0]]:,} rows, "
                "and all rows would be trained on. Write each split to a file of its own, or drop the column if it "
                "means something else."
            )


def _other_split_values(counts: dict[Any, int]) -> list[Any]:
    """Values that mean another split than train, where the column is about splits.

    It is where all values name splits, or values name two splits.
    """
    splits = {value: split_of(value.strip()) for value in counts if isinstance(value, str)}
    distinct_splits = set(splits.values()) - {None}
    all_named = len(splits) == len(counts) and None not in splits.values()
    return (
        [value for value, split in splits.items() if split not in (None, "train")]
        if all_named or len(distinct_splits) > 1
        else []
    )


def _flag_values_outside_train(counts: dict[Any, int], trained: bool) -> list[Any]:
    """Values that take a row out of train, in a column of nothing but yes and no, or 1 and 0."""
    words = {value: str(value).strip().casefold() for value in counts if value is not None}
    if not all(word in YES | NO for word in words.values()):
        return []
    return [value for value, word in words.items() if (word in YES) is not trained]


def _value_counts(dataset: Any, column: str) -> dict[Any, int]:
    """Counts of the values of a column of text, numbers or truth values."""
    import pyarrow as pa

    values = arrow_column(dataset, column)
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        return {}
    counts = values.value_counts()
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
