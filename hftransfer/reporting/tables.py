"""Tables in the terminal: plan, policy and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .console import literal, stdout_console


class PolicyRow(NamedTuple):
    """Row of the policy table, one block of a model: how many parameters it has and how many train, their peak rate
    and weight decay (of matrices; `None` where nothing trains or nobody knows), how they train, and from when on if
    not from the start."""

    name: str
    total: int
    trainable: int
    rate: float | None
    decay: float | None
    method: str
    starts: str = ""

    def cells(self) -> list[str]:
        """Cells of the row as text, in the order of the table's columns."""
        numbers = ["-" if value is None else f"{value:.3g}" for value in (self.rate, self.decay)]
        return [self.name, f"{self.total:,}", f"{self.trainable:,}", *numbers, self.method, self.starts or "-"]


def policy_table(rows: Sequence[PolicyRow]) -> list[list[str]]:
    """Policy table: a header and one list of cells a row, without columns that say nothing."""
    columns = ["block", "parameters", "trainable", "rate", "weight decay", "method", "trains from"]
    cells = [row.cells() for row in rows]
    columns_kept = [i for i in range(len(columns)) if i not in (3, 4, 6) or any(line[i] != "-" for line in cells)]
    return [[line[i] for i in columns_kept] for line in (columns, *cells)]


def print_policy_rows(rows: Sequence[PolicyRow], title: str) -> None:
    """Policy table in the terminal, a model's blocks: what trains, how and how fast."""
    from rich.table import Table

    head, *lines = policy_table(rows)
    table = Table(title=literal(title), title_justify="left")
    for column in head:
        words = column in ("block", "method", "trains from")
        name = column == "block"  # in a narrow terminal names are folded: numbers are not to be cut
        table.add_column(
            column.replace(" ", "\n"),
            justify="left" if words else "right",
            overflow="fold" if name else "ellipsis",
            no_wrap=not name,
        )
    for line in lines:
        table.add_row(*map(literal, line))
    stdout_console().print(table)


def print_facts(rows: Mapping[str, Any], title: str) -> None:
    """Facts in the terminal as a table of two columns; what stands in square brackets is text, not markup."""
    from rich.table import Table

    table = Table(title=literal(title), show_header=False, title_justify="left")
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(literal(key), literal(value))
    stdout_console().print(table)


def print_results(results: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Results in the terminal: a row a model, a column a metric; columns that read target labels are marked oracle.

    Args:
        results: `{row: {column: value}}`; values between 0 and 1 that are shares are shown in per cent.
        title: above the table.

    Example:
        >>> print_results({"source-only": {"source_accuracy": 0.8}, "adapted": {"source_accuracy": 0.9}}, "Results")
    """
    from rich.table import Table

    columns = list(dict.fromkeys(c for row in results.values() for c in row))
    table = Table(title=literal(title), title_justify="left")
    table.add_column("")
    for column in columns:
        words = column.replace("oracle_", "").replace("_", " ")
        table.add_column(
            literal(f"{words}\n(oracle)" if "oracle" in column else words), justify="right", overflow="fold"
        )
    for name, row in results.items():
        table.add_row(literal(name), *(_show(column, row.get(column)) for column in columns))
    stdout_console().print(table)


def _show(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    share = column.endswith(("accuracy", "f1", "precision", "recall"))
    return f"{100 * value:.1f} %" if share else f"{value:.3f}"
