"""Selection metrics of an evaluation: the selection score or a validator, from one pass over a fixed subset."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from ..selection.model_predictions import MixedPairs, Predictions, softmax
from ..selection.selection_score import REFUSED, SelectionScore, calibrate
from ..selection.validators import get_validator
from ..selection.validators.mixval import draw_pairs
from ..stages import stage
from .metrics import SELECTION_SCORE, VALIDATOR, selection_metric
from .prediction_pass import predict_mixed, predict_rows, random_states_kept
from .setup.selection_metric_check import can_mix, source_sets, target_rows

if TYPE_CHECKING:
    from transformers import Trainer

    from .setup.preparation import Prepared

logger = logging.getLogger(__name__)
ROWS = 500  # of the source and of the target, the same ones in every evaluation and every run
PART = "selection_"  # selection_<validator>: what the score is the mean of
WIDTH = 64  # of the features
FEATURES = {"source_features", "target_features", "density_ratio"}


class SelectionMetrics:
    """Scores of a checkpoint that read source validation rows and target rows together, and no target label.

    They are computed where `metric_for_best_model` asks for one, and stand beside the metrics of the last evaluation
    set, so that callbacks see them once.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: from `prepare`.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared):
        self.trainer, self.prepared = trainer, prepared
        self.rule = SelectionScore()

    @property
    def wanted(self) -> str | None:
        """`selection_score`, or `validator_<name>`; `None` where the run chooses by another metric."""
        return selection_metric(self.trainer.args.metric_for_best_model)

    @property
    def beside(self) -> str | None:
        """Name of the evaluation set whose metrics they stand beside."""
        return list(self.prepared.evaluation)[-1] if self.prepared.evaluation else None

    def compute(self) -> dict[str, float]:
        """The metric that is asked for, by its name; beside the score, the scores that it is the mean of.

        Where predictions are not finite, the score is that of a refused checkpoint, and a validator is NaN.
        """
        metric = self.wanted
        assert metric is not None
        with stage("scoring without target labels"), random_states_kept(self.trainer.args.device):
            if metric != SELECTION_SCORE:
                validator = get_validator(metric.removeprefix(VALIDATOR))
                predictions = self._predict({*validator.needs()})
                return {metric: float("nan") if predictions is None else validator.score(calibrate(predictions))}
            needs = {need for name in self.rule.scores for need in get_validator(name).needs()}
            predictions = self._predict(needs)
            if predictions is None:
                self._warn("Predictions are not finite.")
                return {SELECTION_SCORE: REFUSED}
            scored = self.rule.score(predictions, self._best_source_accuracy())
        if scored.refused:
            self._warn(scored.refused)
        return {SELECTION_SCORE: scored.value} | {f"{PART}{name}": value for name, value in scored.parts.items()}

    def _predict(self, needs: set[str]) -> Predictions | None:
        """Predictions with what scores need of them; `None` where they are not finite."""
        trainer: Any = self.trainer
        width = WIDTH if needs & FEATURES else None
        sets, target_set = source_sets(self.prepared), target_rows(self.prepared)
        source = [predict_rows(trainer, rows, max(1, ROWS // len(sets)), features=width) for rows in sets.values()]
        target = predict_rows(trainer, target_set, ROWS, features=width)
        for domain in (*source, target):
            if not all(np.isfinite(x).all() for x in (domain.logits, domain.features) if x is not None):
                return None
        mixed = None
        if "mixed" in needs and can_mix(self.prepared):
            first, second = draw_pairs(target.logits.argmax(1))
            logits = predict_mixed(trainer, target_set, target.rows[first], target.rows[second])
            if not np.isfinite(logits).all():
                return None
            mixed = MixedPairs(softmax(logits), first, second)
        return Predictions(
            np.concatenate([domain.logits for domain in source]),
            np.concatenate([domain.labels for domain in source if domain.labels is not None]),
            target.logits,
            None if width is None else np.concatenate([x.features for x in source if x.features is not None]),
            target.features,
            mixed=mixed,
        )

    def _best_source_accuracy(self) -> float | None:
        """Best accuracy on the source's rows of earlier evaluations; a resumed run knows them, too.

        After training they are those up to the checkpoint that was loaded: what came later is no better model.
        """
        state = self.trainer.state
        loaded = self.trainer.args.load_best_model_at_end and not self.trainer.is_in_train
        last = state.best_global_step if loaded else None
        key = f"eval_{PART}source_accuracy"
        earlier = [e[key] for e in state.log_history if key in e and (last is None or e["step"] <= last)]
        return max(earlier, default=None)

    def _warn(self, reason: str) -> None:
        if self.trainer.is_world_process_zero():
            logger.warning("selection_score: this checkpoint is refused. %s", reason)
