"""Tables of classes: their frequencies, and how well each is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .adaptation_facts import AdaptationFacts, LabelShiftFacts, changes
from .report_text import ABSENT, percent

# Heading, kind and attributes of `ClassFacts`: of source-only and of the chosen model where there are two.
RECALL_COLUMNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("source recall", "", ("source_recall_before", "source_recall_after")),
    ("share of answers", "", ("predicted_share_before", "predicted_share_after")),
    ("share, estimated", "", ("estimated_share",)),
    ("share (oracle)", "oracle", ("oracle_share",)),
    ("target recall (oracle)", "oracle", ("oracle_recall_before", "oracle_recall_after")),
)
MODELS = ("source-only", "handed over")


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
    """Table of recalls and shares, without columns that no class has a value for; `None` where nothing is left.

    Where the chosen model's figures are source-only's, one column stands for both.
    """
    columns: list[tuple[str, str, list[float | None]]] = []
    for heading, kind, attributes in RECALL_COLUMNS:
        values = [[getattr(row, attribute) for row in facts.classes] for attribute in attributes]
        present = [any(value is not None for value in column) for column in values]
        if len(values) == 2 and all(present) and changes(*values):
            columns += [(f"{heading}, {model}", kind, column) for model, column in zip(MODELS, values, strict=True)]
        elif any(present):
            columns.append((heading, kind, values[present.index(True)]))
    if not columns:
        return None
    headings, kinds, cells = zip(*columns, strict=True)
    rows = [[percent(value) for value in row] for row in zip(*cells, strict=True)]
    return ClassTable([row.name for row in facts.classes], headings, kinds, rows)


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
        columns.append(("weight", "", [f"{value:.2f}" for value in np.asarray(facts.weights, dtype=float)]))
    if changes(facts.predicted_before, facts.predicted_after):
        add("answers, source-only", facts.predicted_before)
        add("answers, handed over", facts.predicted_after)
    else:
        add("answers", facts.predicted_before)
    add("target labels (oracle)", facts.oracle_frequencies, "oracle")
    headings, kinds, cells = zip(*columns, strict=True)
    rows = [[column[i] if i < len(column) else ABSENT for column in cells] for i in range(size)]
    return ClassTable(list(facts.classes), headings, kinds, rows)
