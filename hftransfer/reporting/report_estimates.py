"""Estimated accuracies as intervals on one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .adaptation_facts import AdaptationFacts, is_number
from .report_text import interval


@dataclass(frozen=True)
class EstimateTrack:
    """One line of the picture: positions in percent of the axis' width, or the sentence that says why nobody can
    tell."""

    label: str
    text: str
    is_chosen: bool
    start: float | None = None
    width: float | None = None
    dot: float | None = None


@dataclass(frozen=True)
class EstimateTracks:
    """Lines of the picture, and the ends of its axis as text."""

    lines: Sequence[EstimateTrack]
    low: str = ""
    high: str = ""


def estimate_tracks(facts: AdaptationFacts) -> EstimateTracks:
    """Estimates of the chosen model and of source-only; of one where they are the same model."""
    estimates = {"handed over": facts.estimated_accuracy}
    if facts.verdict != "source-only":
        estimates["source-only"] = facts.estimated_accuracy_source_only
    elif facts.estimated_accuracy is None:
        estimates["handed over"] = facts.estimated_accuracy_source_only
    ends = [
        part for e in estimates.values() if e is not None and not isinstance(e, str) for part in e if is_number(part)
    ]
    low = 10 * math.floor(min(ends, default=0) * 10)
    high = max(10 * math.ceil(max(ends, default=1) * 10), low + 10)

    def position(value: float) -> float:
        return round(min(max((100 * value - low) / (high - low) * 100, 0), 100), 2)

    lines = []
    for label, estimate in estimates.items():
        is_chosen = label == "handed over"
        if estimate is None:
            continue
        if isinstance(estimate, str) or not all(map(is_number, estimate)):
            sentence = estimate if isinstance(estimate, str) else "not known"
            lines.append(EstimateTrack(label, sentence, is_chosen))
            continue
        value, lower, upper = estimate
        start, end = position(lower), position(upper)
        lines.append(
            EstimateTrack(label, interval(estimate), is_chosen, start, round(end - start, 2), position(value))
        )
    return EstimateTracks(lines, f"{low} %", f"{high} %")
