"""Verdict of a source-free adaptation: the adapted model, the corrected start or the start, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..reporting.model_card_text import is_hub_id
from ..reporting.source_free_card import SourceFreeFacts
from ..selection.class_frequencies import LabelShiftEstimate, estimate_label_shift
from ..selection.source_free_rule import START, SourceFreeJudgement, SourceFreeRule
from ..selection.source_numbers import SourceNumbers
from ..trainers.prediction_pass import DomainPredictions
from .corrections import Correction
from .source_free_run import ADAPTED, SourceFreeRun

HEADLINES = {
    "adapted": "The model that was adapted on target rows replaces the start model.",
    "corrected": "The start model is kept, its final layer corrected for the target's class frequencies.",
    "unchanged": "The start model is kept as it is.",
    "student": "The student replaces the interface whose predictions it learned from.",
    "refused": "The student is not handed over: keep to the interface.",
}


@dataclass(frozen=True)
class SourceFreeVerdict:
    """Verdict of a source-free adaptation.

    Args:
        facts: what card and terminal say.
        judgement: of the adapted model.
        shift: estimate of the target's class frequencies, from the source's numbers.
        correction: what is written into the start's final layer.
    """

    facts: SourceFreeFacts
    judgement: SourceFreeJudgement
    shift: LabelShiftEstimate | None
    correction: Correction

    @property
    def hands_over(self) -> bool:
        """Whether there is a model to hand over."""
        return self.facts.verdict != "refused"


def decide(
    run: SourceFreeRun,
    numbers: SourceNumbers | None,
    reads_numbers: bool,
    rule: SourceFreeRule,
    correct_start: bool = False,
) -> SourceFreeVerdict:
    """Verdict from predictions on target rows; their labels are read for the oracle figures alone.

    Args:
        run: trained.
        numbers: of the source; `None` without.
        reads_numbers: the user wants them read.
        rule: decides.
        correct_start: the user knows that class frequencies differ: believed ones bind the adapted model, and a start
            that stays is corrected for them.
    """
    names, start = run.model.class_names, run.start_seen
    shift = None if numbers is None else estimate_label_shift(numbers.predictions(start.logits), method="bbse")
    believed = shift.target_frequencies if shift is not None and shift.believed else None
    assert start.features is not None
    is_student = run.given is not None
    judgement = rule.judge(
        start.logits,
        run.adapted_seen.logits,
        start.features,
        believed,
        names,
        start="the interface" if is_student else START,
        needs_gain=not is_student,
        space=run.space,
        frequencies_differ=correct_start,
    )
    correction, reasons = Correction(), []
    if judgement.accepted:
        kind = "student" if is_student else "adapted"
        reasons += [f"The {kind} model is taken: {reason}." for reason in judgement.reasons]
    else:
        kind = "refused" if is_student else "unchanged"
        reasons += [f"The {'student' if is_student else 'adapted model'} is refused: {r}." for r in judgement.reasons]
        if is_student:
            reasons.append(f"It stays in {run.folder}.")
    if not is_student:
        reasons.append(_about_frequencies(shift, numbers, reads_numbers))
    if kind == "unchanged" and believed is not None and shift is not None and numbers is not None:
        obstacle = _obstacle(run)
        if not correct_start:
            reasons.append(
                "The start model is not corrected for these frequencies: counts cannot tell a shift of inputs, by "
                "which a class only looks commoner, from one of frequencies. correct_start=True corrects it."
            )
        elif obstacle:
            reasons.append(f"Class frequencies are not corrected: {obstacle}.")
        else:
            kind, correction = "corrected", Correction(numbers.temperature, shift.weights)
    reasons += [f"In training: {finding}" for finding in run.findings]
    facts = SourceFreeFacts(
        verdict=kind,
        headline=HEADLINES[kind],
        reasons=reasons,
        left_source=_left_source(run, numbers),
        left_target=_left_target(run, kind, shift),
        frequencies={} if shift is None else dict(zip(names, map(float, shift.target_frequencies), strict=True)),
        believed=""
        if shift is None
        else f"Class frequencies from counts of {numbers.rows:,} source validation rows: {shift}."
        if numbers is not None
        else "",
        oracle=_oracle(run, correction if kind == "corrected" else None),
    )
    return SourceFreeVerdict(facts, judgement, shift, correction)


def _about_frequencies(shift: LabelShiftEstimate | None, numbers: SourceNumbers | None, reads_numbers: bool) -> str:
    if not reads_numbers:
        return "Class frequencies are not estimated: the source's numbers were left unread, as asked."
    if shift is None or numbers is None:
        return (
            "Class frequencies are not estimated: the model's config.json holds no numbers of the source. "
            "`finetune` and `adapt` write them, unless save_source_numbers is off."
        )
    return f"Class frequencies, estimated from the source's counts: {shift}."


def _obstacle(run: SourceFreeRun) -> str:
    """Why class frequencies cannot be written into the start model; empty where they can."""
    bias = run.trainer.prepared.model.get_submodule(run.model.head).bias
    return f"the final layer {run.model.head!r} has no bias that they could be written to" if bias is None else ""


def _left_source(run: SourceFreeRun, numbers: SourceNumbers | None) -> list[str]:
    if run.given is not None:
        kind = "labels" if run.given.hard else f"probabilities of {len(run.given.class_names)} classes"
        return [f"an interface's answers on {len(run.given.probabilities):,} target rows, {kind}"]
    model = run.inputs.model
    named = is_hub_id(model) and not Path(model).exists()
    processor = "image processor" if run.model.modality == "image" else "tokenizer"
    left = [f"the weights of {model if named else 'a model'}, its config with the class names, and its {processor}"]
    if numbers is None and run.config_numbers is not None:
        left.append("numbers of the source in its config.json, which were not read")
    if numbers is not None:
        classes = len(numbers.class_names)
        left += [
            f"the confusion matrix of {numbers.rows:,} validation rows, {classes} x {classes} x 3 counts by class, "
            "predicted class and confidence",
            f"{classes} class counts",
            "one temperature",
        ]
    return left


def _left_target(run: SourceFreeRun, kind: str, shift: LabelShiftEstimate | None) -> list[str]:
    left = []
    if kind in ("adapted", "student"):
        left.append(f"weights that were trained on {len(run.inputs.target):,} unlabelled rows")
    if shift is not None:
        where = "in the final layer's bias and in this card" if kind == "corrected" else "in this card"
        left.append(f"{len(shift.target_frequencies)} estimated class frequencies, {where}")
    return left


def _oracle(run: SourceFreeRun, correction: Correction | None) -> Mapping[str, float]:
    """Accuracy on the target's test split by model, computed with its labels and never used."""
    models: dict[str, tuple[DomainPredictions | None, Correction | None]] = {
        START: (run.start_test, None),
        "the corrected start model": (run.start_test if correction is not None else None, correction),
        f"the {ADAPTED} model" if run.given is None else "the student": (run.adapted_test, None),
    }
    accuracies = {}
    for name, (seen, corrected) in models.items():
        if seen is None or seen.labels is None or not len(seen.labels):
            continue
        logits = seen.logits if corrected is None else corrected(seen.logits)
        accuracies[name] = float(np.mean(logits.argmax(1) == seen.labels))
    return accuracies
