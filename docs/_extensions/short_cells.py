"""Tables of short cells keep each cell on one line, so that figures stay together and the table scrolls on a phone."""

from __future__ import annotations

from typing import Any

from docutils import nodes

LONGEST = 32  # characters


def mark_tables(app: Any, doctree: nodes.document) -> None:
    for table in doctree.findall(nodes.table):
        cells = [entry.astext() for body in table.findall(nodes.tbody) for entry in body.findall(nodes.entry)]
        if all(len(cell) <= LONGEST for cell in cells):
            table["classes"].append("short-cells")


def setup(app: Any) -> dict[str, Any]:
    app.connect("doctree-read", mark_tables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
