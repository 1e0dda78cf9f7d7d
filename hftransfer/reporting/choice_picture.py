"""Pictures of a choice: dots with intervals, and heat maps of domains. They need matplotlib, the extra `plots`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import install_hint
from .choice_table import ChoiceTable, shown_number
from .inline_svg import BLUE, VERMILION
from .report_text import shortened

LONGEST_NAME = 36


def require_matplotlib() -> Any:
    """matplotlib's `Figure`.

    Raises:
        ImportError: without matplotlib; the message says what installs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"Pictures need matplotlib: `{install_hint('plots')}` installs it.") from error
    return Figure


def draw_choice(table: ChoiceTable, path: str | os.PathLike[str]) -> None:
    """Picture of a choice: a row a name, a panel a drawn column, intervals as lines; oracle panels are red.

    Args:
        table: of the choice.
        path: of the file; its ending says of what kind.

    Raises:
        ImportError: without matplotlib.
    """
    panels = [column for column in table.columns if column.drawn and any(v is not None for v in column.values)]
    rows = np.arange(len(table.names))[::-1]
    figure = require_matplotlib()(
        figsize=(2.2 + 2.4 * len(panels), 1.3 + 0.4 * len(rows)), layout="constrained", dpi=150
    )
    plots = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for plot, column in zip(plots, panels, strict=True):
        oracle, scale = column.name.startswith("oracle_"), 100 if column.kind == "share" else 1
        colour = VERMILION if oracle else BLUE
        known = [i for i, value in enumerate(column.values) if value is not None]
        if column.low is not None and column.high is not None:
            low, high = (scale * np.asarray(ends, dtype=float)[known] for ends in (column.low, column.high))
            plot.hlines(rows[known], low, high, color=colour, linewidth=1.6)
        plot.plot([scale * float(column.values[i] or 0) for i in known], rows[known], "o", color=colour)
        unit = ", %" if column.kind == "share" else ""
        plot.set_xlabel(f"{column.heading}{' (oracle)' if oracle else ''}{unit}")
        plot.grid(alpha=0.3)
        plot.margins(x=0.12)
    plots[0].set_yticks(rows, [shortened(name, LONGEST_NAME) for name in table.names])
    plots[0].set_ylim(-0.6, len(rows) - 0.4)
    figure.savefig(path)


def draw_matrices(tables: Sequence[ChoiceTable], path: str | os.PathLike[str]) -> None:
    """Heat maps of matrices of domains, side by side, each with its numbers.

    Args:
        tables: one a matrix: a row and a column a domain.
        path: of the file; its ending says of what kind.

    Raises:
        ImportError: without matplotlib.
    """
    size = len(tables[0].names)
    figure = require_matplotlib()(
        figsize=(len(tables) * (1.6 + 0.62 * size), 1.5 + 0.55 * size), layout="constrained", dpi=150
    )
    for plot, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        values = np.array([column.values for column in table.columns], dtype=float).T
        highest = 2.0 if table.columns[0].kind == "number" else 1.0
        plot.imshow(values, cmap="Blues", vmin=0, vmax=highest)
        names = [shortened(name, LONGEST_NAME) for name in table.names]
        plot.set_xticks(range(size), names, rotation=30, ha="right")
        plot.set_yticks(range(size), names)
        plot.set_title(table.title)
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if value > 0.6 * highest else "black"
            text = shown_number(value, table.columns[0].kind).removesuffix(" %")
            plot.text(column, row, text, ha="center", va="center", color=ink)
    figure.savefig(Path(path))
