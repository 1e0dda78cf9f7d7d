"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def print_plan(rows: Mapping[str, Any], title: str = "Plan") -> None:
    """A two-column table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for key, value in rows.items():
        table.add_row(key, str(value))
    Console().print(table)


def print_results(results: Mapping[str, Mapping[str, float]], title: str) -> None:
    """One row a model, one column a metric; columns that read target labels are marked oracle.

    Args:
        results: `{row: {column: value}}`; values between 0 and 1 that are shares are shown in per cent.
        title: above the table.
    """
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(c for row in results.values() for c in row))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        words = column.replace("oracle_", "").replace("_", " ")
        table.add_column(f"{words}\n(oracle)" if "oracle" in column else words, justify="right")
    for name, row in results.items():
        table.add_row(name, *(_show(column, row.get(column)) for column in columns))
    Console().print(table)


def _show(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    share = column.endswith(("accuracy", "f1", "precision", "recall"))
    return f"{100 * value:.1f} %" if share else f"{value:.3f}"
