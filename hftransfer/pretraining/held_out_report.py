"""Held-out report: losses of sentences before and after a pre-training, for console, model card and results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping

NAMES = {
    "sentence_contrast": "Contrast of two readings",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
    "sentence_denoising": "Loss of writing anew",
}
Scores = Mapping[str, float]


def described_scores(before: Scores, rows: int, after: Scores | None = None) -> list[str]:
    """Lines for the console.

    Args:
        before: scores by name.
        rows: that are held out.
        after: scores after training, once there are some.

    Example:
        >>> described_scores({"loss": 3.0, "sentence_contrast": 3.0}, 9, {"loss": 2.5, "sentence_contrast": 2.5})
        ['Contrast of two readings of 9 held-out rows: 3.0000 before, 2.5000 after.']
    """
    lines = []
    for name, title in NAMES.items():
        if name in before:
            later = "" if after is None else f", {after[name]:.4f} after"
            lines.append(f"{title} of {rows} held-out rows: {before[name]:.4f} before{later}.")
    return lines


def card_rows(before: Scores, after: Scores) -> dict[str, tuple[str, str]]:
    """Rows of the model card's table: by what a score is called, before and after, in text."""
    return {title: (f"{before[n]:.4f}", f"{after[n]:.4f}") for n, title in NAMES.items() if n in before}


def results_of(before: Scores, after: Scores) -> dict[str, float | None]:
    """Entries of results.json: each score before and after; `None` for what is no number."""
    named = [(f"{name}_{when}", scores[name]) for name in NAMES if name in before for when, scores in
             (("before", before), ("after", after))]  # fmt: skip
    return {name: value if math.isfinite(value) else None for name, value in named}
