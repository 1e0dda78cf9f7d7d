"""Evaluation of named sets: what reads target labels is called oracle, what reads predictions alone is added."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import EvalLoopOutput

from ..data.domains import is_source_name
from ..data.frames import is_columns
from ..data.labels import LabelSpace
from ..data.text import WORD_MASK
from ..ignored_label import IGNORE
from ..messages import nearest
from ..models.norm_statistics import average_statistics
from ..stages import stage
from .config import AdaptationConfig
from .host import Host
from .metric_results import checked_metrics
from .metrics import LABEL_FREE, SOFTMAX, TaskMetrics, label_free_metrics
from .progress import ProgressLine
from .setup.metric_choice import set_of

logger = logging.getLogger(__name__)
FOR_METRICS = ("inputs", "loss")


class Evaluating(Host):
    """Evaluation and prediction of an `AdaptationTrainer`."""

    _progress: ProgressLine

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """As in `Trainer`; the name of one of the trainer's evaluation sets stays in the names of its metrics.

        Args:
            eval_dataset: rows, a dict of columns or of sets by name, or the name of an evaluation set; all of them
                when `None`.
            ignore_keys: of the model's outputs.
            metric_key_prefix: what the metrics' names start with.

        Raises:
            ValueError: there is no evaluation set of that name.

        Example:
            >>> 0 <= trainer.evaluate("source")["eval_source_accuracy"] <= 1
            True
        """
        if isinstance(eval_dataset, str):
            self._named(eval_dataset)
            if not metric_key_prefix.endswith(f"_{eval_dataset}"):
                metric_key_prefix = f"{metric_key_prefix}_{eval_dataset}"
        elif is_columns(eval_dataset):  # one set; transformers would take each column for one
            eval_dataset = self.prepared.encode_evaluation(eval_dataset, "eval_dataset")
        with self._stopping_early_by(metric_key_prefix):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test") -> Any:
        """As in `Trainer`; takes the name of one of the trainer's evaluation sets, too.

        Raises:
            ValueError: there is no evaluation set of that name.
        """
        if isinstance(test_dataset, str):
            metric_key_prefix = f"{metric_key_prefix}_{test_dataset}"
            test_dataset = self._named(test_dataset)
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As in `Trainer`; raw datasets are encoded first."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.prepared.encode_evaluation(eval_dataset, "eval_dataset")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """As in `Trainer`; raw datasets are encoded first."""
        return super().get_test_dataloader(self.prepared.encode_evaluation(test_dataset, "test_dataset"))

    def prediction_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        """As in `Trainer`; a tagger's logits are -100 where no word begins, as they are in the padding of batches."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if isinstance(logits, torch.Tensor):
            if WORD_MASK in inputs:
                elsewhere = inputs[WORD_MASK].to(logits.device) == 0
                logits = logits.masked_fill(elsewhere.unsqueeze(-1), IGNORE)
            if labels is None and self._batch_by_batch:  # transformers asks for metrics where there are labels
                labels = torch.full(logits.shape[:-1], IGNORE, device=logits.device)
        return loss, logits, labels

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in `Trainer`. What reads the labels of a set that is not a source's is called `oracle_…`; what reads
        predictions alone is added for every set."""
        average_statistics(self.model)
        arguments = (dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if ignore_keys and "logits" in ignore_keys and not (prediction_loss_only or self.args.prediction_loss_only):
            raise ValueError("ignore_keys names 'logits', which are the predictions: leave it out of them.")
        with stage("evaluating"), self._progress.closing(), self._checking_metrics():
            output = super().evaluation_loop(*arguments)
        self._warn_of_broken(output.predictions, metric_key_prefix)
        metrics = dict(output.metrics or {})
        if not self._is_source(metric_key_prefix):
            metrics = {_oracle(key, metric_key_prefix): value for key, value in metrics.items()}
        free: dict[str, float] = {}
        if self._batch_by_batch:
            assert isinstance(self.compute_metrics, TaskMetrics)
            free, self.compute_metrics.label_free = self.compute_metrics.label_free, {}
        elif output.predictions is not None and self.preprocess_logits_for_metrics is None:
            free = label_free_metrics(self.space.task, output.predictions)
        metrics |= {f"{metric_key_prefix}_{name}": value for name, value in free.items()}
        return EvalLoopOutput(output.predictions, output.label_ids, metrics, output.num_samples)

    def _warn_of_broken(self, predictions: Any, prefix: str) -> None:
        """Says of which scores nothing can be learned: NaN has a largest class, too."""
        if (
            not isinstance(predictions, np.ndarray)
            or predictions.dtype.kind != "f"
            or not self.is_world_process_zero()
        ):
            return
        broken = int((~np.isfinite(predictions)).reshape(len(predictions), -1).any(1).sum())
        if broken:
            logger.warning(
                "%s: %d of %d rows have predictions that are not finite; the scores say nothing of them.",
                prefix,
                broken,
                len(predictions),
            )

    @contextmanager
    def _checking_metrics(self) -> Iterator[None]:
        """Looks at what a function of the user's own makes, before transformers does."""
        given = self.compute_metrics
        if given is not None and not isinstance(given, TaskMetrics):
            self.compute_metrics = checked_metrics(given)
        try:
            yield
        finally:
            self.compute_metrics = given

    @property
    def _batch_by_batch(self) -> bool:
        """Whether our metrics are told one batch at a time, and read softmax predictions."""
        ours = isinstance(self.compute_metrics, TaskMetrics)
        return self.args.batch_eval_metrics and ours and self.space.task in SOFTMAX

    def _named(self, name: str) -> Any:
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
        if name not in sets:
            there = f"there is {', '.join(sets)}" if sets else "the trainer was given none: pass eval_dataset"
            raise ValueError(f"There is no evaluation set {name!r}; {there}.{nearest(name, sets)}")
        return sets[name]

    def _is_source(self, prefix: str) -> bool:
        name = prefix.split("_", 1)[1] if "_" in prefix else ""
        return is_source_name(name, self.source_names)

    @contextmanager
    def _stopping_early_by(self, prefix: str) -> Iterator[None]:
        """Hides an evaluation from early stopping, which waits for one metric, unless it is of that metric's set."""
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {}
        wanted = set_of(self.args.metric_for_best_model, sets)
        handler = self.callback_handler
        callbacks = handler.callbacks
        if wanted is not None and prefix not in ("eval", f"eval_{wanted}"):
            handler.callbacks = [c for c in callbacks if not isinstance(c, EarlyStoppingCallback)]
        try:
            yield
        finally:
            handler.callbacks = callbacks


def check_outputs(args: AdaptationConfig, space: LabelSpace, compute_metrics: Any, preprocess: Any) -> Sequence[str]:
    """Refuses what evaluation could not measure, before training instead of at the first evaluation.

    Args:
        args: of the run.
        space: the task.
        compute_metrics: the user's, or `None` for ours.
        preprocess: `preprocess_logits_for_metrics`.

    Returns:
        Names of the metrics that read predictions alone, as far as there will be any.

    Raises:
        ValueError: logits that our metrics could not read, a function that takes no batches, or settings that only a
            function of the user's could make something of.
    """
    for name in args.include_for_metrics:
        if name not in FOR_METRICS:
            near = nearest(name, FOR_METRICS)
            raise ValueError(f"include_for_metrics: there is no {name!r}; there is {' and '.join(FOR_METRICS)}.{near}")
    if compute_metrics is None:
        if args.include_for_metrics:
            raise ValueError(
                f"include_for_metrics={args.include_for_metrics!r} has no effect: our metrics read logits and labels "
                "alone. Leave it out, or pass compute_metrics of your own."
            )
        if preprocess is not None:
            _try_preprocess(space, preprocess)
    elif args.batch_eval_metrics and not _takes(compute_metrics, "compute_result"):
        raise ValueError(
            "batch_eval_metrics=True calls compute_metrics with each batch and with compute_result=True at the last, "
            "and yours has no argument compute_result. Add it, or leave batch_eval_metrics off."
        )
    lost = args.prediction_loss_only or preprocess is not None
    lost = lost or (args.batch_eval_metrics and compute_metrics is not None)
    return () if lost or space.task not in SOFTMAX else LABEL_FREE


def measures_of(args: AdaptationConfig, space: LabelSpace, compute_metrics: Any) -> Sequence[str] | None:
    """Names of the metrics that read labels, but for the loss; `None` where the user's own function makes them."""
    if args.prediction_loss_only:
        return ()
    return TaskMetrics(space.task, space.names).measures() if compute_metrics is None else None


def _try_preprocess(space: LabelSpace, preprocess: Any) -> None:
    """Raises a `ValueError` unless what the function makes of logits can be measured."""
    classes = max(1, len(space.names))
    rows = (2, 3) if space.task == "token-classification" else (2,)
    shape = (*rows, classes)
    labels = torch.zeros(rows if space.task != "multi-label-classification" else shape)
    labels = labels if space.is_float else labels.long()
    logits = torch.tensor([-1.5, 0.5, 2.0, -0.25]).repeat(math.prod(shape))[: math.prod(shape)].view(shape)
    try:
        made = preprocess(logits.clone(), labels)
    except Exception as error:
        raise ValueError(
            f"preprocess_logits_for_metrics fails on logits of shape {shape}, which this model gives: {error}"
        ) from error
    made = made[0] if isinstance(made, (tuple, list)) and made else made
    if isinstance(made, torch.Tensor):
        if space.task == "multi-label-classification" and made.shape == logits.shape:
            if torch.equal(made > 0, logits > 0):
                return
            raise ValueError(
                "preprocess_logits_for_metrics moves the threshold: our metrics take a label as chosen where its "
                "value is above 0. Return logits, or 0 and 1, or pass compute_metrics of your own."
            )
        numbers = space.task == "regression" and made.numel() == labels.numel()
        ids = space.task in SOFTMAX and made.shape == labels.shape and not made.is_floating_point()
        if numbers or ids or made.shape == logits.shape:
            return
    found = f"shape {tuple(made.shape)} ({made.dtype})" if isinstance(made, torch.Tensor) else type(made).__name__
    wanted = f"logits {shape}" + (f" or class ids {rows}" if space.task in SOFTMAX else "")
    raise ValueError(
        f"preprocess_logits_for_metrics makes {found} of logits of shape {shape}, where our metrics read {wanted}. "
        "Return one of them, or pass compute_metrics of your own."
    )


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _oracle(key: str, prefix: str) -> str:
    if key.endswith("_model_preparation_time"):
        return key
    return f"{prefix}_oracle_{key.removeprefix(prefix + '_')}"
