"""Facts of a report on labelled target rows that a user gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ComparisonFacts:
    """Paired comparison of a candidate with the one that stood: gain in accuracy, p, the level asked for, the end."""

    name: str
    standing: str
    gain: float
    p: float
    level: float
    wins: bool


@dataclass(frozen=True)
class AnswerFacts:
    """What labelled target rows told.

    Args:
        count: rows with a label.
        left_out: rows that were asked for and have none.
        judged: rows with a label that judge.
        accuracy, accuracy_source_only: by them, with 80 % intervals.
        without_labels: the estimate for the chosen model that no label was read for; or why nobody can tell.
        comparisons: of candidates.
        sentences: what was decided by them.
    """

    count: int
    left_out: int
    judged: int
    accuracy: tuple[float, float, float]
    accuracy_source_only: tuple[float, float, float]
    without_labels: tuple[float, float, float] | str | None = None
    comparisons: Sequence[ComparisonFacts] = ()
    sentences: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Facts for `adaptation.json`."""
        return asdict(self)

    @property
    def rows(self) -> str:
        """The labelled rows in words.

        Example:
            >>> AnswerFacts(48, 2, 48, (0.8, 0.7, 0.9), (0.7, 0.6, 0.8)).rows
            '48 labelled target rows (2 more were asked for and have no label)'
        """
        left_out = f" ({self.left_out} more were asked for and have no label)" if self.left_out else ""
        return f"{self.count} labelled target row{'s' * (self.count != 1)}{left_out}"
