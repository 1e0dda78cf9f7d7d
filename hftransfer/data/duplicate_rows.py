"""Duplicate rows: texts of one split that another split holds as well, which inflate scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .column_arrays import arrow_column
from .image_keys import image_keys

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
    return len(matching_rows(text_keys(one, columns), text_keys(other, columns)))


def text_keys(dataset: Any, columns: Sequence[str]) -> Any:
    """Keys that rows of equal texts share, as a pyarrow array of text; words are joined by spaces.

    Args:
        dataset: map-style.
        columns: columns of texts, or of lists of words; several are compared together.

    Example:
        >>> text_keys(Dataset.from_dict({"tokens": [["a", "b"]]}), ["tokens"]).to_pylist()
        ['a b']
    """
    arrays = [arrow_column(dataset, column) for column in columns]
    texts = [_joined(array) if pa.types.is_nested(array.type) else array.cast(pa.string()) for array in arrays]
    if len(texts) == 1:
        return texts[0]
    return pc.binary_join_element_wise(*texts, BETWEEN, null_handling="replace")


def matching_rows(keys: Any, other_keys: Any) -> np.ndarray:
    """Rows of a data set that stand in another one as well.

    Args:
        keys: of the one, a pyarrow array such as `text_keys` makes; rows without a key match none.
        other_keys: of the other.

    Returns:
        (k, 2) row numbers: of each row of the other that stands in the one, and of the first row there that equals it.

    Example:
        >>> import pyarrow as pa
        >>> matching_rows(pa.array(["a", "b"]), pa.array(["b", "c", "b"]))
        array([[0, 1],
               [2, 1]])
    """
    positions = pc.index_in(other_keys, value_set=keys, skip_nulls=True)
    rows = np.flatnonzero(positions.is_valid().to_numpy(zero_copy_only=False))
    return np.stack([rows, positions.drop_null().to_numpy()], axis=1).astype(int)


def repeated_rows(keys: Any) -> np.ndarray:
    """Rows that repeat an earlier row of the same data set.

    Args:
        keys: a pyarrow array such as `text_keys` makes; rows without a key repeat none.

    Returns:
        (k, 2) row numbers: of each row that repeats one, and of the first row that equals it.

    Example:
        >>> import pyarrow as pa
        >>> repeated_rows(pa.array(["a", "b", "a"]))
        array([[2, 0]])
    """
    matches = matching_rows(keys, keys)
    return matches[matches[:, 0] != matches[:, 1]]


def rows_without_copies(keys: Any, other_keys: Sequence[Any] = ()) -> np.ndarray:
    """Rows that stand once in a data set, and in none of the others.

    Args:
        keys: of the data set, a pyarrow array such as `text_keys` makes.
        other_keys: of the others.

    Returns:
        Row numbers, sorted.

    Example:
        >>> import pyarrow as pa
        >>> rows_without_copies(pa.array(["a", "b", "a", "c"]), [pa.array(["c"])])
        array([1])
    """
    copies = [repeated_rows(keys).ravel(), *(matching_rows(other, keys)[:, 0] for other in other_keys)]
    return np.setdiff1d(np.arange(len(keys)), np.concatenate(copies))


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


def find_rows_without_copies(
    train_splits: Mapping[str, Any], name: str, text_columns: Collection[str], image_column: str
) -> np.ndarray | None:
    """Rows of one domain's train split that may be held out: those that no train split holds again.

    Args:
        train_splits: by domain.
        name: of the domain.
        text_columns: columns that may hold texts; where there is none, images are compared by their files.
        image_column: where images are.

    Returns:
        Row numbers, sorted; `None` where rows cannot be compared.
    """
    rows = train_splits[name]
    if not hasattr(rows, "__len__"):
        return None
    comparable = {other: data for other, data in train_splits.items() if hasattr(data, "__len__")}
    columns = [column for column in text_columns if _is_text(rows, column) or _is_words(rows, column)]
    if columns:
        keys = {
            other: text_keys(data, columns)
            for other, data in comparable.items()
            if all(_is_text(data, column) or _is_words(data, column) for column in columns)
        }
    elif image_column in rows.column_names:
        keys = image_keys({n: d for n, d in comparable.items() if image_column in d.column_names}, image_column)
    else:
        return None
    return rows_without_copies(keys[name], [other_keys for other, other_keys in keys.items() if other != name])


def _is_text(dataset: Any, column: str) -> bool:
    kind = (dataset.features or {}).get(column)
    return getattr(kind, "dtype", None) in ("string", "large_string")


def _is_words(dataset: Any, column: str) -> bool:
    kind = (dataset.features or {}).get(column)
    return getattr(getattr(kind, "feature", None), "dtype", None) in ("string", "large_string")


def _joined(words: Any) -> Any:
    """Words of each row as one text."""
    return pc.binary_join(words.cast(pa.list_(pa.string())), " ")
