"""Table of candidates: which columns there are, and what stands in each cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from .adaptation_facts import CandidateFacts, is_number
from .report_text import duration, metric_heading, metric_value, number, percent, rank, times

Kind = Literal["fact", "oracle", "score"]


@dataclass(frozen=True)
class Column:
    """Column of the table: `kind` is `"oracle"` where target labels were read, `"score"` for a validator."""

    heading: str
    kind: Kind
    value: Callable[[CandidateFacts], float | None]
    shown: Callable[[float | None], str]
    best: Callable[[Sequence[float]], float] | None = None

    def cells(self, candidates: Sequence[CandidateFacts]) -> list[str]:
        """Cells as text, one a candidate."""
        return [self.shown(self.value(candidate)) for candidate in candidates]

    def best_rows(self, candidates: Sequence[CandidateFacts]) -> set[int]:
        """Rows with the best value among candidates that were not refused, where there are several values."""
        values = {
            i: value
            for i, candidate in enumerate(candidates)
            if not candidate.refused and (value := self.value(candidate)) is not None and is_number(value)
        }
        if self.best is None or len(set(values.values())) < 2:
            return set()
        best = self.best(list(values.values()))
        return {i for i, value in values.items() if value == best}


def candidate_columns(candidates: Sequence[CandidateFacts], scores: bool = True) -> list[Column]:
    """Columns that say something of any candidate: rank, source accuracy, oracle metrics, cost, then the scores.

    Args:
        candidates: rows of the table.
        scores: whether validators have columns.
    """
    columns = [
        Column("rank", "fact", lambda c: c.rank, rank, min),
        Column("source test accuracy", "fact", lambda c: c.source_accuracy, percent, max),
    ]
    columns += [_oracle_column(metric) for metric in dict.fromkeys(name for c in candidates for name in c.oracle)]
    columns += [
        Column("cost", "fact", lambda c: c.relative_cost, times),
        Column("time", "fact", lambda c: c.seconds, duration),
    ]
    if scores:
        columns += [_score_column(score) for score in dict.fromkeys(name for c in candidates for name in c.scores)]
    return [column for column in columns if any(column.value(candidate) is not None for candidate in candidates)]


def _oracle_column(metric: str) -> Column:
    return Column(
        f"target {metric_heading(metric)} (oracle)",
        "oracle",
        lambda candidate: candidate.oracle.get(metric),
        partial(metric_value, metric),
        None if metric.endswith(("loss", "mse")) else max,
    )


def _score_column(score: str) -> Column:
    return Column(metric_heading(score), "score", lambda candidate: candidate.scores.get(score), number, max)
