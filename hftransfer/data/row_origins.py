"""Row origins: how messages call a row, by the file and line that it was read from where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class DataFile:
    """A file as messages call it, with its lines and rows.

    Attributes:
        role: the role of the file, such as `"source"`.
        path: of the file.

    Example:
        >>> place = DataFile("source", Path("dir/news.csv"))
        >>> str(place), place.line(9), place.row(7, 9)
        ("source 'dir/news.csv'", "source 'dir/news.csv' line 9", 'source row 7 (news.csv line 9)')
    """

    role: str
    path: Path

    def __str__(self) -> str:
        return f"{self.role} {str(self.path)!r}"

    def line(self, number: int) -> str:
        """A line of the file, counted from 1."""
        return f"{self} line {number}"

    def origins(self, rows: int, lines: Sequence[int] | None) -> list[str]:
        """The column `ORIGIN`, for as many rows; lines where they are known."""
        file_name = self.path.name
        if lines is None:
            return [f"{row} ({file_name})" for row in range(rows)]
        return [f"{row} ({file_name} line {line})" for row, line in enumerate(lines)]

    def row(self, number: int, line: int | None = None) -> str:
        """A row, counted from 0, as its origin names it."""
        return f"{self.role} row {number} ({self.path.name}{'' if line is None else f' line {line}'})"
