"""Text and numbers as the adaptation report shows them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from ..messages import redacted
from .adaptation_facts import AdaptationFacts, is_number

ABSENT = "–"
LONGEST_TEXT = 600  # characters of a row's text
AS_PERCENT = ("accuracy", "f1", "recall", "precision")


def clean(text: Any) -> str:
    """Text without tokens and without characters that HTML does not allow."""
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" else " " for c in redacted(str(text))
    )


def shown_value(value: Any) -> Any:
    """What stands in the page for a value of a template: markup as it is, text that is `clean`."""
    return value if isinstance(value, (Markup, int, float)) else clean("" if value is None else value)


def isolated(text: Any) -> Markup:
    """Name or text of others inside a sentence, whose direction of writing stays its own.

    Example:
        >>> str(isolated("<b>"))
        '<bdi>&lt;b&gt;</bdi>'
    """
    return Markup("<bdi>{}</bdi>").format(clean(text))


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text in one line, cut where it is long.

    Example:
        >>> shortened("a  long\\ntext", 6)
        'a long…'
    """
    line = " ".join(clean(text).split())
    return line if len(line) <= longest else f"{line[:longest].rstrip()}…"


def percent(value: float | None, digits: int = 1) -> str:
    """Share as a percentage.

    Example:
        >>> percent(0.7712), percent(None)
        ('77.1 %', '–')
    """
    return f"{100 * value:.{digits}f} %" if value is not None and is_number(value) else ABSENT


def interval(estimate: tuple[float, float, float]) -> str:
    """Estimate with its interval.

    Example:
        >>> interval((0.781, 0.742, 0.82))
        '78.1 % (74.2 to 82.0)'
    """
    value, low, high = (100 * part for part in estimate)
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def estimated_by(facts: AdaptationFacts) -> str:
    """What accuracies were estimated by, after a comma."""
    return "without its labels" if facts.answers is None else f"from {facts.answers.rows}"


def compared_by(facts: AdaptationFacts) -> str:
    """What candidates were compared by, after "compared"."""
    more = "" if facts.answers is None else f", and then by {facts.answers.rows}"
    return f"without target labels{more}"


def unlabelled_estimate(facts: AdaptationFacts) -> str:
    """Sentence on the estimate that no label was read for, beside one that was; empty without answers."""
    estimate = None if facts.answers is None else facts.answers.without_labels
    if estimate is None:
        return ""
    shown_estimate = estimate if isinstance(estimate, str) else interval(estimate)
    return f"Without labels it was estimated: {shown_estimate.rstrip('.')}."


def number(value: float | None) -> str:
    """Number with as many digits as are worth reading.

    Example:
        >>> number(0.12345), number(12.345), number(1234.5), number(float("nan"))
        ('0.123', '12.3', '1,234', '–')
    """
    if value is None or not is_number(value):
        return ABSENT
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}".replace("-", "−")


def rank(value: float | None) -> str:
    """Place among candidates.

    Example:
        >>> rank(1), rank(None)
        ('1', '–')
    """
    return f"{value:g}" if value is not None and is_number(value) else ABSENT


def metric_value(name: str, value: float | None) -> str:
    """Metric as a percentage where its name says that it is a share, else as a number."""
    return percent(value) if name.lower().endswith(AS_PERCENT) else number(value)


def metric_heading(name: str) -> str:
    """Name of a metric or score for people.

    Example:
        >>> metric_heading("target_oracle_macro_f1")
        'macro F1'
    """
    words = name.replace("oracle_", "").removeprefix("target_").replace("_", " ").split()
    return " ".join("F1" if word == "f1" else word for word in words)


def duration(seconds: float | None) -> str:
    """Duration for people.

    Example:
        >>> duration(8.4), duration(245), duration(7380)
        ('8 s', '4 min 5 s', '2 h 3 min')
    """
    if seconds is None or not is_number(seconds):
        return ABSENT
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 1 else f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def times(value: float | None) -> str:
    """Relative cost.

    Example:
        >>> times(3.21), times(0.04)
        ('3.2 ×', '0.04 ×')
    """
    if value is None or not is_number(value):
        return ABSENT
    return f"{value:.1f} ×" if value >= 0.1 or value == 0 else f"{value:.2f} ×"


def listed(values: Iterable[Any]) -> Markup:
    """Names in a line, separated by commas, each `isolated`."""
    return Markup(", ").join(isolated(value) for value in values)
