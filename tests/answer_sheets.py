"""Question files in tests: read, changed and filled in as a person would do it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row], **how: Any) -> None:
    with path.open("w", encoding=how.pop("encoding", "utf-8-sig"), newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **how)
        writer.writeheader()
        writer.writerows(rows)


def fill(path: Path, label_of: Callable[[int], str]) -> Path:
    """Labels where there are none, by the number of the target row."""
    rows = read(path)
    for row in rows:
        row["label"] = row["label"] or label_of(int(row["row"]))
    write(path, rows)
    return path
