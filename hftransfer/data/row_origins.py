"""Row origins: names of rows in messages, by the file and line that they were read from where those are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORIGIN = "__origin__"  # a column of the reader's: "7 (news.csv line 9)", the row of the file and its line


def row_names(batch: Mapping[str, Any], rows: Sequence[int]) -> list[str]:
    """Names of the rows of a batch in messages, after "source row ".

    Args:
        batch: columns by name; `ORIGIN` among them where a file was read.
        rows: their numbers in the dataset.
    """
    return list(batch[ORIGIN]) if ORIGIN in batch else [str(row) for row in rows]


def visible(columns: Sequence[str]) -> list[str]:
    """Columns that a user knows of, without the row origins."""
    return [name for name in columns if name != ORIGIN]


@dataclass(frozen=True)
class DataFile:
    """Data file as messages name it, with its lines and rows.

    Attributes:
        role: the role of the file, such as `"source"`.
        path: of the file.

    Example:
        >>> file = DataFile("source", Path("dir/news.csv"))
        >>> str(file), file.line(9), file.row(7, 9)
        ("source 'dir/news.csv'", "source 'dir/news.csv' line 9", 'source row 7 (news.csv line 9)')
    """

    role: str
    path: Path

    def __str__(self) -> str:
        return f"{self.role} {str(self.path)!r}"

    def line(self, number: int) -> str:
        """Name of a line of the file, counted from 1."""
        return f"{self} line {number}"

    def origins(self, rows: int, lines: Sequence[int] | None) -> list[str]:
        """Values of the column `ORIGIN`, for as many rows; with lines where they are known."""
        file_name = self.path.name
        if lines is None:
            return [f"{row} ({file_name})" for row in range(rows)]
        return [f"{row} ({file_name} line {line})" for row, line in enumerate(lines)]

    def row(self, number: int, line: int | None = None) -> str:
        """Name of a row, counted from 0, as its origin has it."""
        return f"{self.role} row {number} ({self.path.name}{'' if line is None else f' line {line}'})"
