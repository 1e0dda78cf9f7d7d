"""Duplicate rows: texts of one split that another split holds as well, which inflate scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .column_arrays import arrow_column

BETWEEN = "\x1f"  # of the texts of one row


def count_duplicate_rows(one: Any, other: Any, text_columns: Collection[str]) -> int:
    """Number of rows of `other` that have the texts of a row of `one`.

    Args:
        one, other: datasets; streams, and those that share no column of texts, count 0.
        text_columns: columns that may hold texts.

    Example:
        >>> news, more = Dataset.from_dict({"text": ["a", "b"]}), Dataset.from_dict({"text": ["b", "c", "b"]})
        >>> count_duplicate_rows(news, more, ["text"])
        2
    """
    if not (hasattr(one, "__len__") and hasattr(other, "__len__")):
        return 0
    columns = [name for name in text_columns if _is_text(one, name) and _is_text(other, name)]
    if not columns:
        return 0
    texts, other_texts = (_texts(dataset, columns) for dataset in (one, other))
    return pc.sum(pc.is_in(other_texts, value_set=texts.drop_null()).cast(pa.int64())).as_py() or 0


def note_duplicates(splits: Mapping[str, Any], text_columns: Collection[str]) -> list[str]:
    """Notes on rows of evaluation splits that are in train too."""
    counts = {
        split: count_duplicate_rows(splits["train"], dataset, text_columns)
        for split, dataset in splits.items()
        if "train" in splits and split != "train"
    }
    return [
        f"{split}: {count:,} of {len(splits[split]):,} rows {'are rows' if count > 1 else 'is a row'} of train too"
        for split, count in counts.items()
        if count
    ]


def note_source_rows_in_target(splits: Mapping[str, Mapping[str, Any]], text_columns: Collection[str]) -> list[str]:
    """Notes on splits of the target of which half the rows or more are rows of a source.

    Args:
        splits: datasets by domain and split, the target's under `"target"`.
        text_columns: columns that may hold texts.
    """
    notes = []
    for name, source_splits in splits.items():
        for split, rows in splits["target"].items() if name != "target" else ():
            count = sum(
                count_duplicate_rows(source_splits[split_name], rows, text_columns)
                for split_name in ("train", "validation")
                if split_name in source_splits
            )
            if count and 2 * count >= len(rows):
                notes.append(f"{split}: {count:,} of {len(rows):,} rows are rows of {name} too")
    return notes


def _is_text(dataset: Any, column: str) -> bool:
    kind = (dataset.features or {}).get(column)
    return getattr(kind, "dtype", None) in ("string", "large_string")


def _texts(dataset: Any, columns: list[str]) -> Any:
    arrays = [arrow_column(dataset, column) for column in columns]
    texts = [array.cast(pa.string()) for array in arrays]
    if len(texts) == 1:
        return texts[0]
    return pc.binary_join_element_wise(*texts, BETWEEN, null_handling="replace")
