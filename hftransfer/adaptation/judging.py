"""Judging: trained candidates and their free corrections compared by the selection rule, without a target label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..selection.class_frequencies import LabelShiftEstimate, estimate_label_shift
from ..selection.model_predictions import Predictions
from ..selection.rule import Contender, Judgement, SelectionRule
from ..selection.target_accuracy import AccuracyEstimate, estimate_accuracy
from .candidate_predictions import JUDGE_SEED
from .candidate_run import CandidateOutcome
from .corrections import Correction, calibration
from .stored_predictions import StoredPredictions

Verdict = Literal["adapted", "corrected", "source-only"]


@dataclass(frozen=True)
class Entry:
    """A candidate as it would be handed over.

    Args:
        name: the candidate's, with `", corrected"` where its class frequencies are.
        outcome: the candidate.
        correction: what is laid over its logits.
        predictions: with the correction.
        weights: (K,) of the label shift that it was corrected for or trained with.
    """

    name: str
    outcome: CandidateOutcome
    correction: Correction
    predictions: StoredPredictions
    weights: np.ndarray | None = None

    @property
    def verdict(self) -> Verdict:
        if not self.outcome.recipe.base:
            return "adapted"
        return "corrected" if self.correction.weights is not None else "source-only"

    @property
    def reference(self) -> bool:
        """Whether it is a mean of predictions, of which there is no one model."""
        return bool(self.outcome.recipe.mean_of)

    def plain(self) -> Predictions:
        """The candidate's predictions without the correction."""
        assert self.outcome.predictions is not None
        return self.outcome.predictions.predictions(JUDGE_SEED)

    def seen(self) -> Predictions:
        """Its predictions as validators read them."""
        return self.predictions.predictions(JUDGE_SEED)


@dataclass(frozen=True)
class Verdicts:
    """What judging came to.

    Args:
        chosen: the entry to hand over.
        base: the plain source-only run.
        entries: all that were judged.
        judgement: scores, ranks, gates and reasons.
        shift: estimate of the target's class frequencies from the best predictions that there are.
        shifts: the same by candidate.
        accuracy, base_accuracy: estimates for the target, of the chosen one and of plain source-only.
    """

    chosen: Entry
    base: Entry
    entries: list[Entry]
    judgement: Judgement
    shift: LabelShiftEstimate
    shifts: dict[str, LabelShiftEstimate] = field(default_factory=dict)
    accuracy: AccuracyEstimate | None = None
    base_accuracy: AccuracyEstimate | None = None


def estimate_shift(predictions: StoredPredictions) -> LabelShiftEstimate:
    """Label shift estimate of a candidate's predictions, with its test."""
    return estimate_label_shift(predictions.predictions(JUDGE_SEED), seed=JUDGE_SEED)


def judge(
    outcomes: Sequence[CandidateOutcome],
    rule: SelectionRule,
    class_names: Sequence[str],
    obstacle: str = "",
) -> Verdicts:
    """Choice among candidates and their corrections.

    A candidate that saw the source alone is corrected for its own estimate of the target's class frequencies, where
    the test believes it. What target rows did to a model's predictions would be taken for a shift: one that was
    trained with them is left as it is. Source-only runs of further seeds are parts of a mean; they do not compete, nor
    do rounds of self-training that were set aside. A linear probe competes only where training lost accuracy on the
    source beside it: scores of the target favour models that are sure, and one fitted to the end is. There it is the
    better of two models that saw the source alone, and takes the place of source-only: it is what others have to beat.

    Args:
        outcomes: in the order of the list; those without predictions are left out.
        rule: decides.
        class_names: of the run.
        obstacle: why a correction cannot be written into a saved model; empty where it can.
    """
    sound = [outcome for outcome in outcomes if outcome.predictions is not None and not outcome.set_aside]
    bases = [outcome for outcome in sound if outcome.recipe.base]
    base_outcome = next(outcome for outcome in bases if outcome.recipe.seed == 0)
    entries: list[Entry] = []
    standing_back: dict[str, str] = {}
    shifts: dict[str, LabelShiftEstimate] = {}
    for outcome in sound:
        assert outcome.predictions is not None
        if outcome.recipe.base and outcome is not base_outcome:
            continue
        trained = trained_weights(outcome, class_names)
        plain = calibration(outcome.predictions, trained)
        entry = Entry(outcome.name, outcome, plain, outcome.predictions.map_logits(plain), trained)
        if _is_probe(outcome) and (why := _stands_back(entry, base_outcome, rule)):
            standing_back[outcome.name] = why
            continue
        entries.append(entry)
        if not predicts_as_the_source_taught(outcome, sound):
            continue
        shifts[outcome.name] = shift = estimate_shift(outcome.predictions)
        if shift.believed and (not obstacle or outcome.recipe.mean_of):
            correction = Correction(shift.temperature, shift.weights)
            corrected = outcome.predictions.map_logits(correction)
            if outcome.recipe.mean_of:  # as soft labels were: the plain mean has no use
                entries.pop()
            entries.append(Entry(f"{outcome.name}, corrected", outcome, correction, corrected, shift.weights))
    base = next(entry for entry in entries if entry.name == base_outcome.name)
    means = [outcome.name for outcome in sound if outcome.recipe.mean_of and outcome.name in shifts]
    shift = shifts[means[0]] if means else shifts[base.name]
    standing = next((entry for entry in entries if _is_probe(entry.outcome)), base)
    judgement = rule.judge([contender(entry, entry is standing) for entry in entries], shift, class_names)
    if standing is not base:
        judgement.reasons.insert(0, _replaces_training(standing, base))
    judgement.refused.update(standing_back)
    judgement.refused.update({outcome.name: outcome.set_aside for outcome in outcomes if outcome.set_aside})
    rounds = (outcome.set_aside or outcome.round_reason for outcome in outcomes)
    judgement.reasons.extend(reason for reason in rounds if reason)
    if shift.believed and obstacle:
        judgement.reasons.append(f"No model is corrected for class frequencies: {obstacle}")
    chosen = next(entry for entry in entries if entry.name == judgement.chosen)
    members = [_member(outcome, shift) for outcome in bases] if len(bases) > 1 else None
    return Verdicts(
        chosen,
        base,
        entries,
        judgement,
        shift,
        shifts,
        estimate_accuracy(chosen.seen(), chosen.weights, members),
        estimate_accuracy(base.seen(), shift.weights if shift.believed else None),
    )


def contender(entry: Entry, base: bool) -> Contender:
    """What the rule reads of an entry."""
    return Contender(entry.name, entry.seen(), base, entry.weights, entry.reference)


def predicts_as_the_source_taught(outcome: CandidateOutcome, outcomes: Sequence[CandidateOutcome]) -> bool:
    """Whether no target row had a part in a candidate: a source-only run, a linear probe, or a mean or
    average of such."""
    by_name = {other.name: other for other in outcomes}
    parts = outcome.recipe.parts
    if parts and not (outcome.recipe.trains or outcome.recipe.adabn_of):
        return all(predicts_as_the_source_taught(by_name[name], outcomes) for name in parts)
    return outcome.recipe.base or _is_probe(outcome)


def _is_probe(outcome: CandidateOutcome) -> bool:
    """Whether it is a linear probe on the source alone."""
    return outcome.recipe.probe and not outcome.recipe.answers


def _stands_back(probe: Entry, base: CandidateOutcome, rule: SelectionRule) -> str:
    """Why a linear probe does not compete; empty where plain training lost accuracy on the source beside it."""
    assert base.predictions is not None
    plain = Entry(base.name, base, calibration(base.predictions), base.predictions)
    contenders = contender(plain, True), contender(probe, False)
    if rule.gates().source_accuracy(contenders[0], contenders[1:]):
        return ""
    return (
        f"{probe.name} competes only where training lost accuracy on the source beside it, and on source validation "
        f"rows {base.name} has {_at_home(plain):.1f} and {probe.name} {_at_home(probe):.1f}, which shows none"
    )


def _replaces_training(probe: Entry, base: Entry) -> str:
    return (
        f"{probe.name} takes the place of {base.name} as the model that others have to beat: taught by the same rows, "
        f"it is right on {_at_home(probe):.1f} % of the source validation rows, and {base.name} on "
        f"{_at_home(base):.1f} %."
    )


def _at_home(entry: Entry) -> float:
    """Accuracy on source validation rows, in percent."""
    seen = entry.seen()
    return 100 * float((seen.source_logits.argmax(1) == seen.source_labels).mean())


def trained_weights(outcome: CandidateOutcome, class_names: Sequence[str]) -> np.ndarray | None:
    """(K,) class weights that a student's source rows had."""
    if not outcome.class_weights:
        return None
    return np.array([outcome.class_weights.get(name, 1.0) for name in class_names])


def _member(outcome: CandidateOutcome, shift: LabelShiftEstimate) -> np.ndarray:
    """(j, K) target probabilities of an independent run, corrected as the shift is believed."""
    assert outcome.predictions is not None
    correction = calibration(outcome.predictions)
    if shift.believed:
        correction = Correction(correction.temperature, shift.weights)
    return np.exp(correction(outcome.predictions.target_logits[outcome.predictions.judged]))
