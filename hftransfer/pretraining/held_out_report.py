"""Held-out report: losses of sentences before and after a pre-training, for console, model card and results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .pretraining_kind import PretrainingKind

NAMES = {
    "sentence_contrast": "Contrast of two readings",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
    "sentence_denoising": "Loss of writing anew",
}
LOSSES = ("sentence_contrast", "sentence_denoising")
Scores = Mapping[str, float]


def described_scores(kind: PretrainingKind, before: Scores, rows: int, after: Scores | None = None) -> list[str]:
    """Lines for the console: the kind's score, and those of sentences; a sum of one loss is not said twice.

    Args:
        kind: of the run.
        before: scores by name.
        rows: that are held out.
        after: scores after training, once there are some.

    Example:
        >>> from hftransfer.pretraining.pretraining_kind import TEXTS
        >>> lines = described_scores(TEXTS, {"loss": 3.0, "perplexity": 20.1}, 9, {"loss": 2.5, "perplexity": 12.2})
        >>> lines
        ['Perplexity at masked words of 9 held-out rows: 20.10 before, 12.20 after.']
    """
    shown = {kind.score: (measure(kind, before), kind.digits)}
    shown |= {name: (NAMES[name], 4) for name in _besides(before)}
    lines = []
    for name, (title, digits) in shown.items():
        later = "" if after is None else f", {after[name]:.{digits}f} after"
        lines.append(f"{title} of {rows} held-out rows: {before[name]:.{digits}f} before{later}.")
    return lines


def measure(kind: PretrainingKind, scores: Scores) -> str:
    """What the kind's score is, as a sentence begins with it; by its own name where it is one loss of sentences."""
    return NAMES.get(_whole_sum(scores), kind.measures)


def card_rows(before: Scores, after: Scores) -> dict[str, tuple[str, str]]:
    """Rows of the model card's table besides the kind's score: by what a score is called, before and after."""
    return {NAMES[name]: (f"{before[name]:.4f}", f"{after[name]:.4f}") for name in _besides(before)}


def _besides(scores: Scores) -> list[str]:
    """Scores that the kind's does not say already."""
    return [name for name in NAMES if name in scores and name != _whole_sum(scores)]


def _whole_sum(scores: Scores) -> str:
    """The loss of sentences that is the whole sum; empty where none is."""
    return next((name for name in LOSSES if name in scores and scores[name] == scores["loss"]), "")


def results_of(before: Scores, after: Scores) -> dict[str, float | None]:
    """Entries of results.json: each score before and after; `None` for what is no number."""
    named = [(f"{name}_{when}", scores[name]) for name in NAMES if name in before for when, scores in
             (("before", before), ("after", after))]  # fmt: skip
    return {name: value if math.isfinite(value) else None for name, value in named}
