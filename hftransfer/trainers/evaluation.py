"""Evaluation of named sets: oracle names for metrics that read target labels, and label-free metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import EvalLoopOutput

from ..data.dataframes import is_dict_of_columns
from ..data.domain_arguments import is_source_name
from ..data.text_encoder import WORD_MASK
from ..ignored_label import IGNORE
from ..messages import nearest
from .metrics import SOFTMAX, TaskMetrics, label_free_metrics, selection_metric
from .selection_metrics import SelectionMetrics
from .setup.metric_choice_check import set_of
from .user_metrics import checked_metrics

if TYPE_CHECKING:
    from transformers import Trainer

    from .setup.preparation import Prepared

logger = logging.getLogger(__name__)


class Evaluator:
    """Evaluation and prediction of a trainer, around what `Trainer` does.

    Args:
        trainer: an `AdaptationTrainer`.
        prepared: from `prepare`.
    """

    def __init__(self, trainer: Trainer, prepared: Prepared):
        self.trainer, self.prepared = trainer, prepared
        self.selection_metrics = SelectionMetrics(trainer, prepared)
        self._scores_selection = False  # with the metrics of the evaluation that runs

    # ---- data

    @property
    def sets(self) -> Mapping[str, Any]:
        """The trainer's evaluation sets by name."""
        sets: Any = self.trainer.eval_dataset
        return sets if isinstance(sets, dict) else {}

    def named_set(self, name: str) -> Any:
        """Evaluation set of a name; a `ValueError` if there is none."""
        if name not in self.sets:
            offered = (
                f"there is {', '.join(self.sets)}" if self.sets else "the trainer was given none: pass eval_dataset"
            )
            raise ValueError(f"There is no evaluation set {name!r}; {offered}.{nearest(name, self.sets)}")
        return self.sets[name]

    def data_and_prefix(self, eval_dataset: Any, prefix: str) -> tuple[Any, str]:
        """Arguments of `Trainer.evaluate`: a set's name is added to the prefix, and columns are encoded."""
        if isinstance(eval_dataset, str):
            self.named_set(eval_dataset)
            return eval_dataset, prefix if prefix.endswith(f"_{eval_dataset}") else f"{prefix}_{eval_dataset}"
        if is_dict_of_columns(eval_dataset):  # one set; transformers would take each column for one
            return self.prepared.encode_evaluation(eval_dataset, "eval_dataset"), prefix
        return eval_dataset, prefix

    # ---- a batch

    def mask_words(
        self, inputs: Mapping[str, Any], logits: Any, labels: torch.Tensor | None
    ) -> tuple[Any, torch.Tensor | None]:
        """Logits and labels of a batch, masked: in tagging, logits are -100 where no word begins.

        Without labels, they are all -100 if metrics are read batch by batch.
        """
        if not isinstance(logits, torch.Tensor):
            return logits, labels
        if WORD_MASK in inputs:
            elsewhere = inputs[WORD_MASK].to(logits.device) == 0
            logits = logits.masked_fill(elsewhere.unsqueeze(-1), IGNORE)
        if labels is None and self._batch_by_batch:  # transformers asks for metrics where there are labels
            labels = torch.full(logits.shape[:-1], IGNORE, device=logits.device)
        return logits, labels

    # ---- metrics

    @contextmanager
    def checking_metrics(self) -> Iterator[None]:
        """Check of the results of a user's `compute_metrics`, before transformers reads them."""
        compute_metrics = self.trainer.compute_metrics
        if compute_metrics is not None and not isinstance(compute_metrics, TaskMetrics):
            self.trainer.compute_metrics = checked_metrics(compute_metrics)
        try:
            yield
        finally:
            self.trainer.compute_metrics = compute_metrics

    def named_metrics(self, output: EvalLoopOutput, prefix: str) -> EvalLoopOutput:
        """Output with `oracle_…` metrics for a set that is not a source's, and with label-free metrics."""
        self._warn_of_broken(output.predictions, prefix)
        metrics = dict(output.metrics or {})
        name = prefix.split("_", 1)[1] if "_" in prefix else ""
        if not is_source_name(name, self.prepared.source_names):
            metrics = {_oracle(key, prefix): value for key, value in metrics.items()}
        metrics |= {f"{prefix}_{metric}": value for metric, value in self._label_free(output.predictions).items()}
        if self._scores_selection:
            scores = self.selection_metrics.compute()
            metrics |= {f"{prefix.removesuffix(f'_{name}')}_{metric}": value for metric, value in scores.items()}
        return EvalLoopOutput(output.predictions, output.label_ids, metrics, output.num_samples)

    @contextmanager
    def hidden_from_early_stopping(self, prefix: str) -> Iterator[None]:
        """Evaluation hidden from early stopping, which waits for one metric, unless it is of that metric's set."""
        metric = self.trainer.args.metric_for_best_model
        watched = set_of(metric, self.sets) if selection_metric(metric) is None else self.selection_metrics.beside
        handler = self.trainer.callback_handler
        callbacks = handler.callbacks
        if watched is not None and prefix not in ("eval", f"eval_{watched}"):
            handler.callbacks = [c for c in callbacks if not isinstance(c, EarlyStoppingCallback)]
        try:
            yield
        finally:
            handler.callbacks = callbacks

    @contextmanager
    def scoring_selection(self, eval_dataset: Any) -> Iterator[None]:
        """Evaluation that is scored for selection, too, if it is of the set that these scores stand beside."""
        former = self._scores_selection
        is_due = isinstance(eval_dataset, str) and eval_dataset == self.selection_metrics.beside
        self._scores_selection = is_due and self.selection_metrics.wanted is not None
        try:
            yield
        finally:
            self._scores_selection = former

    def check_ignored(self, ignore_keys: list[str] | None, prediction_loss_only: bool | None) -> None:
        """Check that `ignore_keys` leaves the predictions; raises `ValueError`."""
        if ignore_keys and "logits" in ignore_keys:
            if not (prediction_loss_only or self.trainer.args.prediction_loss_only):
                raise ValueError("ignore_keys names 'logits', which are the predictions: leave it out of them.")

    @property
    def _batch_by_batch(self) -> bool:
        """Whether our metrics get one batch at a time, of softmax predictions."""
        is_ours = isinstance(self.trainer.compute_metrics, TaskMetrics)
        return self.trainer.args.batch_eval_metrics and is_ours and self.prepared.label_space.task in SOFTMAX

    def _label_free(self, predictions: Any) -> dict[str, float]:
        if self._batch_by_batch:
            compute_metrics = self.trainer.compute_metrics
            assert isinstance(compute_metrics, TaskMetrics)
            values, compute_metrics.label_free = compute_metrics.label_free, {}
            return values
        if predictions is None or self.trainer.preprocess_logits_for_metrics is not None:
            return {}
        return label_free_metrics(self.prepared.label_space.task, predictions)

    def _warn_of_broken(self, predictions: Any, prefix: str) -> None:
        """Warning of predictions that are not finite: NaN has a largest class, too, so scores hide it."""
        if not isinstance(predictions, np.ndarray) or predictions.dtype.kind != "f":
            return
        if not self.trainer.is_world_process_zero():
            return
        broken = int((~np.isfinite(predictions)).reshape(len(predictions), -1).any(1).sum())
        if broken:
            logger.warning(
                "%s: %d of %d rows have predictions that are not finite; the scores say nothing of them.",
                prefix,
                broken,
                len(predictions),
            )


def _oracle(key: str, prefix: str) -> str:
    if key.endswith("_model_preparation_time"):
        return key
    return f"{prefix}_oracle_{key.removeprefix(prefix + '_')}"
