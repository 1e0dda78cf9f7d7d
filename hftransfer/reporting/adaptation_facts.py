"""Facts of an adaptation's report: plain values in, without models or data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .answer_facts import AnswerFacts

VERDICTS = {
    "adapted": "A candidate that is better than plain training on the source is handed over.",
    "corrected": "A model that was trained on the source is handed over, corrected for the target without training.",
    "source-only": "The model that was trained on the source is handed over as it is.",
}


class EstimatedAccuracy(NamedTuple):
    """Estimated accuracy on the target with its interval, each between 0 and 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CandidateFacts:
    """One candidate, as the report's table shows it.

    Args:
        name: of the candidate.
        summary: what it is, in one line.
        scores: by validator, larger is better; what is not finite is shown as absent.
        rank: place among the candidates, 1 is best; `None` where it was not ranked.
        refused: why it is not eligible: a gate refused it, it did not finish, it is no plain model; empty where it is.
        chosen: whether it is handed over.
        reference: whether it is the source-only model that the others are compared with.
        oracle: metrics that were computed with target labels, such as `{"accuracy": 0.77}`.
        source_accuracy: on source test rows, between 0 and 1.
        seconds: of its training and predictions.
        relative_cost: its seconds over those of one source-only training.
    """

    name: str
    summary: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    rank: float | None = None
    refused: str = ""
    chosen: bool = False
    reference: bool = False
    oracle: Mapping[str, float] = field(default_factory=dict)
    source_accuracy: float | None = None
    seconds: float | None = None
    relative_cost: float | None = None


@dataclass(frozen=True, eq=False)
class LabelShiftFacts:
    """Class frequencies of source and target, and whether the estimate was believed.

    Args:
        classes: K names.
        source_frequencies: (K,), of the source's labels.
        target_frequencies: (K,), as estimated for the target.
        intervals: (K, 2), of the estimate.
        weights: (K,), target over source frequency, as they were used.
        believed: whether the correction was used.
        sentence: why, in plain words.
        predicted_before, predicted_after: (K,), share of target rows that source-only and the chosen model answer
            with each class.
        oracle_frequencies: (K,), of the target's labels where there are any.
    """

    classes: Sequence[str]
    source_frequencies: np.ndarray
    target_frequencies: np.ndarray | None = None
    intervals: np.ndarray | None = None
    weights: np.ndarray | None = None
    believed: bool = False
    sentence: str = ""
    predicted_before: np.ndarray | None = None
    predicted_after: np.ndarray | None = None
    oracle_frequencies: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ConfidenceFacts:
    """Largest probability of each row: of target rows by source-only and by the chosen model, of source validation
    rows by the chosen model."""

    target_before: np.ndarray
    target_after: np.ndarray | None = None
    source: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FeatureFacts:
    """Features of the same rows in the source-only and in the chosen model.

    Args:
        classes: names, in the order of class ids.
        source_before, target_before: (n, d) and (m, d), source-only's.
        source_after, target_after: (n, e) and (m, e), the chosen model's; `None` where it is the same model, or has
            the same features and other answers.
        source_classes: (n,) ids, of the labels.
        target_classes_before, target_classes_after: (m,) ids that each model predicts.
    """

    classes: Sequence[str]
    source_before: np.ndarray
    target_before: np.ndarray
    source_classes: np.ndarray
    target_classes_before: np.ndarray | None = None
    source_after: np.ndarray | None = None
    target_after: np.ndarray | None = None
    target_classes_after: np.ndarray | None = None


@dataclass(frozen=True)
class ClassFacts:
    """One class: recall on source validation rows, its share of the target's answers and as estimated, and what
    target labels say (`oracle_`), each between 0 and 1, of source-only (`_before`) and the chosen model (`_after`)."""

    name: str
    source_recall_before: float | None = None
    source_recall_after: float | None = None
    predicted_share_before: float | None = None
    predicted_share_after: float | None = None
    estimated_share: float | None = None
    oracle_share: float | None = None
    oracle_recall_before: float | None = None
    oracle_recall_after: float | None = None


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Reliability diagram's bins: (b,) mean confidence, accuracy and number of rows; and the calibration error (ECE).
    Bins without rows are left out of the picture."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    error: float | None = None


@dataclass(frozen=True, eq=False)
class CalibrationFacts:
    """Calibration on source validation rows, before and after the temperature."""

    before: ReliabilityBins
    after: ReliabilityBins | None = None
    temperature: float | None = None


@dataclass(frozen=True, eq=False)
class ChangedRow:
    """A target row whose answer changed.

    Args:
        before, after: answers of source-only and of the chosen model.
        text: of the row; may be empty where `tokens` or `image` show it.
        image: bytes of a PNG or JPEG file.
        confidence_before, confidence_after: probability of each answer.
        tokens: (token, attribution) in reading order, positive where the token speaks for the answer after.
        patches: (h, w) attributions of an image's patches.
        oracle_label: the target's label, where there is one.
    """

    before: str
    after: str
    text: str = ""
    image: bytes = b""
    confidence_before: float | None = None
    confidence_after: float | None = None
    tokens: Sequence[tuple[str, float]] = ()
    patches: np.ndarray | None = None
    oracle_label: str = ""


@dataclass(frozen=True)
class CostFacts:
    """Seconds of the whole and of the judging, a part of it."""

    total_seconds: float
    judged_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class AdaptationFacts:
    """All that the report of an adaptation shows. Every part but the first four may be absent.

    Shares and accuracies lie between 0 and 1. "Before" is the source-only model, "after" the one that is handed over.

    Args:
        verdict: `"adapted"`, `"corrected"` or `"source-only"`.
        headline: the verdict in one sentence.
        source, target: names of the domains.
        reasons: for the verdict, a sentence each.
        estimated_accuracy: of the chosen model on the target; or a sentence that says why nobody can tell.
        estimated_accuracy_source_only: the same of source-only.
        load_lines: lines of Python that load the model, such as those of `model_card_text.load_lines`.
        output_folder: name of the folder that holds the model.
        backbone, effort: names.
        seeds: of the source-only runs.
        rows: numbers of rows by what they are, such as `{"source, training": 800}`.
        versions: by package.
        looks: what the data look like, a line each.
        warnings: what went wrong or is missing, a line each: a candidate that crashed, validation rows that were held
            out of the training rows.
        candidates: in the order of the table.
        label_shift, confidences, features, classes, calibration, changed_rows, cost: sections of the report.
        answers: what labelled target rows told, where a user gave some; estimated accuracies are then from them.

    Raises:
        ValueError: an unknown verdict, or more than one chosen candidate.

    Example:
        >>> facts = AdaptationFacts("source-only", "Nothing is estimated to help.", source="news", target="notes")
        >>> facts.has_oracle
        False
    """

    verdict: str
    headline: str
    source: str
    target: str
    reasons: Sequence[str] = ()
    estimated_accuracy: tuple[float, float, float] | str | None = None
    estimated_accuracy_source_only: tuple[float, float, float] | str | None = None
    load_lines: Sequence[str] = ()
    output_folder: str = ""
    backbone: str = ""
    effort: str = ""
    seeds: Sequence[int] = ()
    rows: Mapping[str, int | str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    looks: Sequence[str] = ()
    warnings: Sequence[str] = ()
    candidates: Sequence[CandidateFacts] = ()
    label_shift: LabelShiftFacts | None = None
    confidences: ConfidenceFacts | None = None
    features: FeatureFacts | None = None
    classes: Sequence[ClassFacts] = ()
    calibration: CalibrationFacts | None = None
    changed_rows: Sequence[ChangedRow] = ()
    cost: CostFacts | None = None
    answers: AnswerFacts | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict={self.verdict!r} must be one of {', '.join(VERDICTS)}.")
        chosen = [candidate.name for candidate in self.candidates if candidate.chosen]
        if len(chosen) > 1:
            raise ValueError(f"One candidate is handed over, but {len(chosen)} are chosen: {', '.join(chosen)}.")

    @property
    def chosen(self) -> CandidateFacts | None:
        """The candidate that is handed over."""
        return next((candidate for candidate in self.candidates if candidate.chosen), None)

    @property
    def reference(self) -> CandidateFacts | None:
        """The source-only candidate that the others are compared with."""
        return next((candidate for candidate in self.candidates if candidate.reference), None)

    @property
    def settings_shown(self) -> dict[str, str]:
        """Settings of the run as text, without those that are not known."""
        settings = {
            "source, labelled": self.source,
            "target, unlabelled": self.target,
            "backbone": self.backbone,
            "effort": self.effort,
            "seeds": ", ".join(map(str, self.seeds)),
            **{f"rows, {name}": f"{n:,}" if isinstance(n, int) else n for name, n in self.rows.items()},
            "output folder": self.output_folder,
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        }
        return {name: value for name, value in settings.items() if value}

    @property
    def has_oracle(self) -> bool:
        """Whether any figure was computed with target labels."""
        shift = self.label_shift
        return (
            any(candidate.oracle for candidate in self.candidates)
            or (shift is not None and shift.oracle_frequencies is not None)
            or any(row.oracle_label for row in self.changed_rows)
            or any(
                value is not None
                for row in self.classes
                for value in (row.oracle_share, row.oracle_recall_before, row.oracle_recall_after)
            )
        )


def changes(before: Any, after: Any) -> bool:
    """Whether figures of the chosen model are there and differ from source-only's."""
    if before is None or after is None:
        return after is not None
    return not np.array_equal(np.asarray(before, dtype=float), np.asarray(after, dtype=float), equal_nan=True)


def is_number(value: float | None) -> bool:
    """Whether a value may be shown as a number: neither absent nor NaN nor infinite."""
    return value is not None and math.isfinite(value)
