"""Rows of a joint batch: source rows, target rows, second views of target rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Span = tuple[int, int]  # the first position that some row uses, and the one after the last


@dataclass(frozen=True)
class BatchRows:
    """Row ranges of a joint batch: source rows first, then target rows, then perhaps second views of target rows.

    Args:
        num_source: rows of the source.
        total: rows of source and target together.
        spans: which positions of source rows, and of the others, are not padding.
    """

    num_source: int
    total: int
    spans: Sequence[Span] | None = None

    @property
    def total_with_views(self) -> int:
        return 2 * self.total - self.num_source

    @property
    def source(self) -> slice:
        return slice(0, self.num_source)

    @property
    def target(self) -> slice:
        return slice(self.num_source, self.total)

    @property
    def views(self) -> slice:
        return slice(self.total, None)

    def of(self, domains: str) -> slice:
        """Rows of `"source"`, of `"target"` or of `"all"` (both)."""
        return {"all": slice(0, self.total), "source": self.source, "target": self.target}[domains]

    def pick(self, inputs: dict[str, Any], domains: str) -> dict[str, Any]:
        """Model inputs of those rows alone; entries that hold no rows stay as they are."""
        chosen, lengths = self.of(domains), (self.total, self.total_with_views)
        return {k: v[chosen] if any(has_rows(v, n) for n in lengths) else v for k, v in inputs.items()}


def has_rows(value: Any, rows: int) -> bool:
    """Whether a batch's entry holds so many rows."""
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows
