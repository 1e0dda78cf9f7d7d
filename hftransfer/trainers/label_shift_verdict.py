"""Label shift verdict: whether the class weights that a run has estimated are to be trusted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..selection.explained_gap import ExplainedGap, explain_gap
from ..selection.model_predictions import Predictions
from ..stages import stage
from .prediction_pass import predict_rows
from .setup.selection_metric_check import source_sets, target_rows
from .trainer_access import joint_model_of

logger = logging.getLogger(__name__)
ROWS = 1000  # of each domain


@dataclass(frozen=True)
class LabelShiftVerdict:
    """Whether class weights are to be trusted.

    Args:
        trusted: `None` where it could not be tested.
        text: the same in one sentence, for log, card and results.
        test: the evidence.
    """

    trusted: bool | None
    text: str
    test: ExplainedGap | None = None


def judge_weights(predictions: Predictions, weights: np.ndarray, trained_with: str = "") -> LabelShiftVerdict:
    """Verdict on class weights from predictions on source validation rows and on the target.

    Args:
        predictions: of the run's model.
        weights: (K,), target over source frequency.
        trained_with: names of objectives that were given the weights: they make the weighted domains alike, so that
            the test passes too easily.

    Example:
        >>> source, target = 3 * np.eye(2)[[0, 1] * 50], 3 * np.eye(2)[[0, 1, 1, 1] * 25]
        >>> judge_weights(Predictions(source, [0, 1] * 50, target), np.array([1.5, 0.5])).trusted
        False
    """
    test = explain_gap(predictions, weights)
    times = test.gap / max(test.gap_by_chance, 1e-12)
    share = f"{100 * test.explained:.0f} % of the gap between predictions on source and target"
    if test.believed:
        text = f"are to be trusted: they explain {share}, which is {times:.1f} times what chance shows"
        if trained_with:
            text += f"; {trained_with} was trained to that end, so that this is weak evidence"
    elif not test.enough_rows:
        text = f"are not to be trusted: {test.few_rows}; leave label_shift out"
    elif not test.above_chance:
        text = (
            "are not to be trusted: predictions on source and target differ no more than by chance, so that there is "
            "nothing to correct; leave label_shift out"
        )
    else:
        text = (
            f"are not to be trusted: they explain {share}, and what is left is "
            f"{test.gap_left / max(test.gap_by_chance, 1e-12):.1f} times what chance shows, so that the domains "
            "differ in something else; leave label_shift out"
        )
    return LabelShiftVerdict(test.believed, f"The class weights {text}.", test)


def judge_label_shift(trainer: Any) -> LabelShiftVerdict | None:
    """Verdict on the class weights of a run, logged; a warning unless they are to be trusted.

    It reads up to a thousand rows of the source's evaluation sets and of the target, in one pass that leaves the run
    as it was. Source rows of training are learnt by heart and would prove nothing.

    Args:
        trainer: an `AdaptationTrainer` that has trained. `None` for one without `label_shift`.
    """
    joint, prepared = joint_model_of(trainer), trainer.prepared
    label_shift = joint.task_loss.label_shift
    if label_shift is None:
        return None
    weights = label_shift.weights.double().cpu().numpy()
    sets, target = source_sets(prepared), target_rows(prepared)
    if not sets or target is None:
        missing = "source has no evaluation set" if not sets else "target is a stream without an evaluation set"
        verdict = _untested(f"the {missing}; pass one in eval_dataset")
    elif np.all(weights == 1):
        verdict = _untested("none was estimated: the run ended before the target was seen once")
    else:
        verdict = _judge(trainer, sets, target, weights, " and ".join(_given_weights(joint)))
    if trainer.is_world_process_zero():
        logger.log(logging.INFO if verdict.trusted else logging.WARNING, "label_shift: %s", verdict.text)
    return verdict


def _judge(
    trainer: Any, sets: dict[str, Any], target: Any, weights: np.ndarray, trained_with: str
) -> LabelShiftVerdict:
    with stage("testing the class weights"):
        source = [predict_rows(trainer, rows, max(1, ROWS // len(sets)), features=None) for rows in sets.values()]
        target_logits = predict_rows(trainer, target, ROWS, features=None).logits
    logits = np.concatenate([domain.logits for domain in source])
    if not np.isfinite(logits).all() or not np.isfinite(target_logits).all():
        return _untested("predictions are not finite")
    labels = np.concatenate([domain.labels for domain in source if domain.labels is not None])
    return judge_weights(Predictions(logits, labels, target_logits), weights, trained_with)


def _untested(reason: str) -> LabelShiftVerdict:
    return LabelShiftVerdict(None, f"Whether the class weights are to be trusted could not be tested: {reason}.")


def _given_weights(joint: Any) -> list[str]:
    """Names of objectives that weigh source rows."""
    inputs = joint.objectives.inputs
    return [name for name in joint.objectives if "source_weights" in inputs[name].values()]
