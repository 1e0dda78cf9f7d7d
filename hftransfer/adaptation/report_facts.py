"""Report facts of an adaptation, gathered from candidates, verdicts and data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..data.label_space import listed
from ..reporting.adaptation_facts import (
    AdaptationFacts,
    CalibrationFacts,
    CandidateFacts,
    ClassFacts,
    ConfidenceFacts,
    CostFacts,
    FeatureFacts,
    LabelShiftFacts,
    ReliabilityBins,
)
from ..reporting.answer_facts import AnswerFacts, ComparisonFacts
from ..selection.calibration import calibration_error
from ..selection.model_predictions import softmax
from ..selection.target_accuracy import AccuracyEstimate
from .answer_judging import AnswerFindings
from .candidate_run import CandidateOutcome
from .judging import Entry, Verdicts
from .run_inputs import RunInputs

BINS = 10
HARDLY = 0.2  # of an even share: a class that is estimated to have less is hardly there
PICTURED_ROWS = 400  # of each domain, in the picture of features


def report_facts(
    inputs: RunInputs,
    outcomes: Sequence[CandidateOutcome],
    verdicts: Verdicts,
    looks: Sequence[str],
    effort: str,
    cost: CostFacts | None = None,
    answers: AnswerFindings | None = None,
) -> AdaptationFacts:
    """Facts of the report and of the card's section.

    Args:
        inputs: of the run.
        outcomes: all candidates, those that failed among them.
        verdicts: from `judge`.
        looks: lines on the data.
        effort: its name.
        cost: of the whole.
        answers: from `judge_with_answers`.
    """
    chosen, base = verdicts.chosen, verdicts.base
    names = dict(inputs.dataset_names or {})
    folder = Path(str(inputs.args.output_dir)).absolute().name
    model = chosen.outcome.model
    assert model is not None
    classes = model.class_names
    estimates = [_estimate(e) for e in (verdicts.accuracy, verdicts.base_accuracy)]
    return AdaptationFacts(
        verdict=chosen.verdict,
        headline=_headline(verdicts),
        source=", ".join(names.get(name, name) for name in inputs.train),
        target=names.get("target", "target"),
        reasons=[*verdicts.judgement.reasons, _sentence(str(verdicts.shift)), *_absent_classes(verdicts, classes)],
        estimated_accuracy=estimates[0],
        estimated_accuracy_source_only=estimates[1],
        load_lines=load_lines(chosen.outcome, folder),
        output_folder=folder,
        backbone=inputs.model if isinstance(inputs.model, str) else "from scratch",
        effort=effort,
        seeds=[inputs.args.seed + outcome.recipe.seed for outcome in outcomes if outcome.recipe.base],
        rows=_rows(inputs),
        versions=_versions(),
        looks=looks,
        warnings=[
            f"{o.name}: {line}" for o in outcomes for line in (*o.findings, *([o.failure] if o.failure else []))
        ],
        candidates=_candidates(outcomes, verdicts),
        label_shift=_label_shift(verdicts, classes),
        confidences=ConfidenceFacts(
            _confidence(base.seen().target_logits),
            _confidence(chosen.seen().target_logits),
            _confidence(chosen.seen().source_logits),
        ),
        features=_features(verdicts, classes),
        classes=_classes(verdicts, classes),
        calibration=_calibration(base),
        cost=cost,
        answers=None if answers is None else _answers(answers),
    )


def _answers(findings: AnswerFindings) -> AnswerFacts:
    return AnswerFacts(
        count=len(findings.answers),
        left_out=findings.answers.left_out,
        judged=findings.judged,
        accuracy=_interval(findings.accuracy),
        accuracy_source_only=_interval(findings.base_accuracy),
        without_labels=_estimate(findings.without_labels),
        comparisons=[ComparisonFacts(c.name, c.standing, c.gain, c.p, c.level, c.wins) for c in findings.comparisons],
        sentences=findings.sentences,
    )


def _interval(estimate: AccuracyEstimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _headline(verdicts: Verdicts) -> str:
    chosen, base = verdicts.chosen, verdicts.base
    if chosen.verdict == "source-only":
        return "Do not adapt: no candidate is clearly better than training on the source alone."
    if chosen.verdict == "corrected":
        return f"{base.name} with its class frequencies corrected for the target is handed over."
    return f"{chosen.name} is handed over: the evidence for it beside {base.name} is clear."


def _absent_classes(verdicts: Verdicts, classes: Sequence[str]) -> list[str]:
    """Sentence on classes that the chosen model is fitted to hardly answer; none where it is fitted to no shift."""
    if verdicts.chosen.weights is None:
        return []
    rare = verdicts.shift.target_frequencies < HARDLY / len(classes)
    if not rare.any():
        return []
    names = listed(name for name, is_rare in zip(classes, rare, strict=True) if is_rare)
    return [
        f"Hardly any target row is expected of {names}, and the model hardly answers so. Where such rows are still to "
        f"come, use the candidate {verdicts.base.name}."
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def load_lines(outcome: CandidateOutcome, folder: str) -> list[str]:
    """Lines of Python that load a candidate's plain model without hftransfer.

    Args:
        outcome: the candidate.
        folder: where its model is.
    """
    model = outcome.model
    assert model is not None
    words = model.task == "token-classification"
    kind = "image" if model.modality == "image" else "token" if words else "text"
    location = json.dumps(folder, ensure_ascii=False)
    return ["from transformers import pipeline", "", f'model = pipeline("{kind}-classification", {location})']


def _estimate(estimate: AccuracyEstimate | None) -> tuple[float, float, float] | str | None:
    if estimate is None:
        return None
    return (estimate.value, estimate.low, estimate.high) if estimate.known else f"cannot tell: {estimate.reason}"


def _rows(inputs: RunInputs) -> dict[str, int | str]:
    rows: dict[str, int | str] = {"source, training": inputs.num_source}
    rows["source, validation"] = sum(len(rows) for rows in inputs.validation.values())
    rows["target"] = len(inputs.target)
    return rows | {f"test of {name}": len(rows) for name, rows in inputs.test.items()}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"hftransfer": __version__} | {name: version(name) for name in ("transformers", "torch")}


def accuracy_of(logits: np.ndarray | None, labels: np.ndarray | None) -> float | None:
    """Accuracy on rows that have a label; `None` without."""
    if logits is None or labels is None or not (labels >= 0).any():
        return None
    labelled = labels >= 0
    return float((logits.argmax(1)[labelled] == labels[labelled]).mean())


def oracle_metrics(logits: np.ndarray | None, labels: np.ndarray | None) -> dict[str, float]:
    """Accuracy and macro F1 on target test rows, where they have labels: shown, never decided by."""
    accuracy = accuracy_of(logits, labels)
    if accuracy is None or logits is None or labels is None:
        return {}
    from sklearn.metrics import f1_score

    labelled = labels >= 0
    f1 = f1_score(labels[labelled], logits.argmax(1)[labelled], average="macro", zero_division=0)
    return {"accuracy": accuracy, "macro F1": float(f1)}


def _why_not(outcome: CandidateOutcome, refusal: str | None) -> str:
    """Why an outcome was not judged."""
    return outcome.failure or outcome.set_aside or refusal or "It is a part of a mean and does not compete."


def _candidates(outcomes: Sequence[CandidateOutcome], verdicts: Verdicts) -> list[CandidateFacts]:
    judgement, facts = verdicts.judgement, []
    once = next((o.seconds for o in outcomes if o.recipe.base and o.seconds), 0.0)
    for outcome in outcomes:
        entries = [entry for entry in verdicts.entries if entry.outcome is outcome]
        if not entries:  # it failed, or is a part of a mean
            stored = outcome.predictions
            facts.append(
                CandidateFacts(
                    outcome.name,
                    outcome.recipe.about,
                    refused=_why_not(outcome, judgement.refused.get(outcome.name)),
                    oracle={}
                    if stored is None
                    else oracle_metrics(stored.target_test_logits, stored.target_test_labels_oracle),
                    source_accuracy=None
                    if stored is None
                    else accuracy_of(stored.source_test_logits, stored.source_test_labels),
                    seconds=outcome.seconds or None,
                    relative_cost=outcome.seconds / once if once and outcome.seconds else None,
                )
            )
        for number, entry in enumerate(entries):
            stored = entry.predictions
            seconds = outcome.seconds if number == 0 and outcome.seconds else None
            about = outcome.recipe.about
            facts.append(
                CandidateFacts(
                    entry.name,
                    about if entry.name == outcome.name else f"{about}, corrected for class frequencies",
                    scores=judgement.scores.get(entry.name, {}),
                    rank=judgement.ranks.get(entry.name),
                    refused=judgement.refused.get(entry.name, "")
                    or ("It is a mean of predictions; there is no one model of it." if entry.reference else ""),
                    chosen=entry is verdicts.chosen,
                    reference=entry is verdicts.base,
                    oracle=oracle_metrics(stored.target_test_logits, stored.target_test_labels_oracle),
                    source_accuracy=accuracy_of(stored.source_test_logits, stored.source_test_labels),
                    seconds=seconds,
                    relative_cost=seconds / once if once and seconds else None,
                )
            )
    return facts


def _shares(logits: np.ndarray) -> np.ndarray:
    return np.bincount(logits.argmax(1), minlength=logits.shape[1]) / len(logits)


def _oracle_shares(entry: Entry) -> np.ndarray | None:
    labels = entry.predictions.target_test_labels_oracle
    if labels is None or not (labels >= 0).any():
        return None
    counts = np.bincount(labels[labels >= 0], minlength=entry.predictions.target_logits.shape[1])
    return counts / counts.sum()


def _label_shift(verdicts: Verdicts, classes: Sequence[str]) -> LabelShiftFacts:
    shift = verdicts.shift
    return LabelShiftFacts(
        classes,
        shift.source_frequencies,
        shift.target_frequencies,
        shift.intervals,
        verdicts.chosen.weights,
        bool(shift.believed),
        _sentence(str(shift)),
        _shares(verdicts.base.seen().target_logits),
        _shares(verdicts.chosen.seen().target_logits),
        _oracle_shares(verdicts.base),
    )


def _confidence(logits: np.ndarray) -> np.ndarray:
    return softmax(logits).max(1)


def _features(verdicts: Verdicts, classes: Sequence[str]) -> FeatureFacts | None:
    before, after = verdicts.base.seen(), verdicts.chosen.seen()
    if before.source_features is None or before.target_features is None:
        return None
    source, target = slice(0, PICTURED_ROWS), slice(0, PICTURED_ROWS)
    other = verdicts.chosen.outcome is not verdicts.base.outcome and after.source_features is not None
    return FeatureFacts(
        classes,
        before.source_features[source],
        before.target_features[target],
        before.source_labels[source],
        before.target_logits.argmax(1)[target],
        after.source_features[source] if other else None,
        after.target_features[target] if other and after.target_features is not None else None,
        after.target_logits.argmax(1)[target],
    )


def _recalls(logits: np.ndarray | None, labels: np.ndarray | None, classes: int) -> list[float | None]:
    if logits is None or labels is None:
        return [None] * classes
    hits = logits.argmax(1) == labels
    return [float(hits[labels == k].mean()) if (labels == k).any() else None for k in range(classes)]


def _classes(verdicts: Verdicts, classes: Sequence[str]) -> list[ClassFacts]:
    before, after = verdicts.base, verdicts.chosen
    columns: dict[str, Any] = {}
    for entry, when in ((before, "before"), (after, "after")):
        seen, stored = entry.seen(), entry.predictions
        columns[f"source_recall_{when}"] = _recalls(seen.source_logits, seen.source_labels, len(classes))
        columns[f"predicted_share_{when}"] = _shares(seen.target_logits).tolist()
        columns[f"oracle_recall_{when}"] = _recalls(
            stored.target_test_logits, stored.target_test_labels_oracle, len(classes)
        )
    columns["estimated_share"] = verdicts.shift.target_frequencies.tolist()
    oracle = _oracle_shares(before)
    columns["oracle_share"] = [None] * len(classes) if oracle is None else oracle.tolist()
    return [ClassFacts(name, **{key: values[k] for key, values in columns.items()}) for k, name in enumerate(classes)]


def _calibration(base: Entry) -> CalibrationFacts:
    stored = base.outcome.predictions
    assert stored is not None
    labels = stored.source_validation_labels
    plain = softmax(stored.source_validation_logits)
    return CalibrationFacts(
        _bins(plain, labels),
        _bins(softmax(base.correction(stored.source_validation_logits)), labels),
        base.correction.temperature,
    )


def _bins(probabilities: np.ndarray, labels: np.ndarray) -> ReliabilityBins:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(number, minlength=BINS)
    total = np.maximum(count, 1)
    return ReliabilityBins(
        np.bincount(number, confidence, BINS) / total,
        np.bincount(number, right, BINS) / total,
        count,
        calibration_error(probabilities, labels),
    )
