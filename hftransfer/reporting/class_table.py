"""Tables of classes: their frequencies, and how well each is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .adaptation_facts import AdaptationFacts, ClassFacts, LabelShiftFacts
from .report_text import ABSENT, number, percent

RECALL_COLUMNS = (
    ("source recall, source-only", "source_recall_before", ""),
    ("source recall, handed over", "source_recall_after", ""),
    ("share of answers, source-only", "predicted_share_before", ""),
    ("share of answers, handed over", "predicted_share_after", ""),
    ("share, estimated", "estimated_share", ""),
    ("share (oracle)", "oracle_share", "oracle"),
    ("target recall, source-only (oracle)", "oracle_recall_before", "oracle"),
    ("target recall, handed over (oracle)", "oracle_recall_after", "oracle"),
)


@dataclass(frozen=True)
class ClassTable:
    """Table whose rows are classes: headings, kinds (`"oracle"` or nothing) and, for each class, cells."""

    names: Sequence[str]
    headings: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def has_oracle(self) -> bool:
        return "oracle" in self.kinds


def recall_table(facts: AdaptationFacts) -> ClassTable | None:
    """Table of recalls and shares, without columns that no class has a value for; `None` where nothing is left."""
    columns = [
        column for column in RECALL_COLUMNS if any(getattr(row, column[1]) is not None for row in facts.classes)
    ]
    if not columns:
        return None

    def cells(row: ClassFacts) -> list[str]:
        return [percent(getattr(row, name)) for _, name, _ in columns]

    headings, _, kinds = zip(*columns, strict=True)
    return ClassTable([row.name for row in facts.classes], headings, kinds, [cells(row) for row in facts.classes])


def frequency_table(facts: LabelShiftFacts) -> ClassTable:
    """Table of class frequencies and weights."""
    size = len(facts.classes)
    columns: list[tuple[str, str, list[str]]] = []

    def add(heading: str, values: np.ndarray | None, kind: str = "") -> None:
        if values is not None:
            columns.append((heading, kind, [percent(value) for value in np.asarray(values, dtype=float)]))

    add("source", facts.source_frequencies)
    add("target, estimated", facts.target_frequencies)
    if facts.intervals is not None:
        low, high = 100 * np.asarray(facts.intervals, dtype=float).T
        columns.append(("interval", "", [f"{a:.1f} to {b:.1f}" for a, b in zip(low, high, strict=True)]))
    if facts.weights is not None:
        columns.append(("weight", "", [number(value) for value in np.asarray(facts.weights, dtype=float)]))
    add("answers, source-only", facts.predicted_before)
    add("answers, handed over", facts.predicted_after)
    add("target labels (oracle)", facts.oracle_frequencies, "oracle")
    headings, kinds, cells = zip(*columns, strict=True)
    rows = [[column[i] if i < len(column) else ABSENT for column in cells] for i in range(size)]
    return ClassTable(list(facts.classes), headings, kinds, rows)
