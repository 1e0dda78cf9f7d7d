"""Tables of a choice between checkpoints or sources: plain facts, in the terminal and for a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .console import literal, print_lines, stdout_console

Kind = Literal["share", "number", "count", "place", "size"]
UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True)
class ChoiceColumn:
    """Column of a table of a choice.

    Args:
        name: as a file has it, such as `"probe_accuracy"`; with `oracle_` in front where target labels were read.
        heading: above it.
        values: one a row, `None` where there is none.
        kind: how a value is shown: `"share"` in per cent, `"number"`, `"count"`, `"place"`, `"size"` of a model.
        low, high: of intervals; a value is shown without them where `None`.
        drawn: it has a panel in the picture.
        printed: it stands in the terminal, too, and not in the file alone.
    """

    name: str
    heading: str
    values: Sequence[float | None]
    kind: Kind = "number"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    drawn: bool = False
    printed: bool = True

    def cell(self, row: int) -> str:
        """Cell of a row as text, its interval on a second line.

        Example:
            >>> ChoiceColumn("probe_accuracy", "probe", [0.84], "share", [0.8], [0.88]).cell(0)
            '84.0 %\\n80.0–88.0'
        """
        value = self.values[row]
        if value is None:
            return "-"
        if self.low is None or self.high is None:
            return shown_number(value, self.kind)
        low, high = (shown_number(end[row], self.kind).removesuffix(" %") for end in (self.low, self.high))
        return f"{shown_number(value, self.kind)}\n{low}–{high}"


@dataclass(frozen=True)
class ChoiceTable:
    """Table of a choice: what is chosen between, best first, and what is known of each.

    Args:
        title: above the table.
        what: heading of the names.
        names: one a row.
        columns: what is known.
        notes: lines below the table.
    """

    title: str
    what: str
    names: Sequence[str]
    columns: Sequence[ChoiceColumn]
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Facts as a JSON file holds them: a record a row."""
        rows = []
        for row, name in enumerate(self.names):
            record: dict[str, Any] = {self.what: name}
            for column in self.columns:
                record[column.name] = column.values[row]
                if column.low is not None and column.high is not None:
                    record[f"{column.name}_low"], record[f"{column.name}_high"] = column.low[row], column.high[row]
            rows.append(record)
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def shown_number(value: float, kind: Kind) -> str:
    """Number as text.

    Example:
        >>> shown_number(22_713_216, "size"), shown_number(0.5, "share"), shown_number(1360, "count")
        ('22.7 M', '50.0 %', '1,360')
    """
    if kind == "share":
        return f"{100 * value:.1f} %"
    if kind in ("count", "place"):
        return f"{value:,.0f}"
    if kind == "size":
        unit, letter = next(((unit, letter) for unit, letter in UNITS if value >= unit), (1, ""))
        return f"{value / unit:.3g} {letter}".strip()
    return f"{value:.2f}"


def print_choice_table(table: ChoiceTable) -> None:
    """Table in the terminal, with its notes."""
    from rich.table import Table

    shown = Table(title=literal(table.title), title_justify="left")
    shown.add_column(literal(table.what), overflow="fold")
    printed = [column for column in table.columns if column.printed]
    for column in printed:
        heading = f"{column.heading} (oracle)" if column.name.startswith("oracle_") else column.heading
        shown.add_column(literal(heading.replace(" ", "\n")), justify="right", overflow="fold")
    for row, name in enumerate(table.names):
        shown.add_row(literal(name), *(literal(column.cell(row)) for column in printed))
    stdout_console().print(shown)
    if table.notes:
        print_lines(*(f"- {note}" for note in table.notes))
