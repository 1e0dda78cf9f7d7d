"""Row origins: how messages call a row, by the file and line that it was read from where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ORIGIN = "__origin__"  # a column of the reader's: "7 (news.csv line 9)", the row of the file and its line


def row_names(batch: Mapping[str, Any], rows: Sequence[int]) -> list[str]:
    """How messages call the rows of a batch, after "source row ".

    Args:
        batch: columns by name; `ORIGIN` among them where a file was read.
        rows: their numbers in the dataset.
    """
    return list(batch[ORIGIN]) if ORIGIN in batch else [str(row) for row in rows]


def visible(columns: Sequence[str]) -> list[str]:
    """The columns that a user knows of."""
    return [name for name in columns if name != ORIGIN]
