"""Evaluation metrics, computed by scikit-learn; `evaluate_modules.py` offers them as `evaluate` metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..ignored_label import IGNORE

SOFTMAX = ("sequence-classification", "token-classification")  # tasks whose logits are of one class of several
LABEL_FREE = ("entropy", "diversity", "information")
SELECTION_SCORE, VALIDATOR = "selection_score", "validator_"  # metrics of a source and the target together
LOWER_IS_BETTER = ("loss", "entropy", "mse", "mae")  # ends of metrics; of all others, more is better


def lower_is_better(metric: str | None) -> bool:
    """Whether less of a metric is better, by the end of its name.

    Example:
        >>> lower_is_better("eval_source_mse"), lower_is_better("eval_source_accuracy")
        (True, False)
    """
    return str(metric).endswith(LOWER_IS_BETTER) and selection_metric(metric) is None


def selection_metric(metric: str | None) -> str | None:
    """Selection score or validator that a metric's name stands for, without `eval_`; `None` for any other metric.

    Of each of them, more is better.

    Example:
        >>> selection_metric("eval_selection_score"), selection_metric("validator_snd"), selection_metric("eval_loss")
        ('selection_score', 'validator_snd', None)
    """
    name = str(metric).removeprefix("eval_")
    return name if name == SELECTION_SCORE or name.startswith(VALIDATOR) else None


def classification_metrics(
    predictions: np.ndarray, references: np.ndarray, names: Sequence[str], multilabel: bool = False
) -> dict[str, float]:
    """Accuracy, macro and micro precision, recall and F1, and the three per class as `f1_<name>` and so on.

    Args:
        predictions: (n,) class ids, or (n, classes) of 0/1 for multi-label.
        references: the same shape.
        names: label names in id order. Classes that occur in neither are left out of macro averages.
        multilabel: rows may have several labels.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    named = list(range(len(names)))
    present = named if multilabel else np.union1d(references, predictions).tolist()
    classes = [*named, *(i for i in present if i not in named)]
    accuracy = float(accuracy_score(references, predictions))
    out = {"accuracy": accuracy}
    of_classes = partial(precision_recall_fscore_support, references, predictions, zero_division=0)
    p, r, f, _ = of_classes(labels=classes, average=None)
    macro = [values[np.isin(classes, present)].mean() for values in (p, r, f)]
    micro = of_classes(average="micro")[:3] if multilabel else [accuracy] * 3  # of one class a row, they are one
    for average, (precision, recall, f1) in (("macro", macro), ("micro", micro)):
        out[f"{average}_f1"], out[f"{average}_precision"] = float(f1), float(precision)
        out[f"{average}_recall"] = float(recall)
    for i, name in enumerate(names):
        key = name.replace(" ", "_")
        out |= {f"f1_{key}": float(f[i]), f"precision_{key}": float(p[i]), f"recall_{key}": float(r[i])}
    return out


def regression_metrics(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Mean squared and absolute error, and Pearson correlation (0 where either side is constant)."""
    p, y = np.ravel(predictions).astype(float), np.ravel(references).astype(float)
    varies = len(y) > 1 and p.std() > 0 and y.std() > 0
    return {
        "mse": float(np.mean((p - y) ** 2)),
        "mae": float(np.mean(np.abs(p - y))),
        "pearson": float(np.corrcoef(p, y)[0, 1]) if varies else 0.0,
    }


def metrics_for(task: str, names: Sequence[str]) -> TaskMetrics:
    """The `compute_metrics` of a task."""
    return TaskMetrics(task, names)


class TaskMetrics:
    """The `compute_metrics` of a task, of a whole set or batch by batch.

    It takes what any of the settings makes of predictions: arrays, lists of one array a batch
    (`eval_do_concat_batches=False`), class ids instead of logits (`preprocess_logits_for_metrics`), or one batch at a
    time (`batch_eval_metrics`), of which it keeps class ids and sums, not logits.

    Args:
        task: one of `hftransfer.data.label_space.TASKS`.
        names: label names in id order.

    Example:
        >>> compute = TaskMetrics("sequence-classification", ["no", "yes"])
        >>> compute(EvalPrediction(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0])))["accuracy"]
        0.5
    """

    def __init__(self, task: str, names: Sequence[str]):
        if task != "regression":
            # Now, before seeds are set: what this import brings along draws from Python's random state, which would
            # make a resumed run, in another process, draw once more than one that was left alone.
            import sklearn.metrics  # noqa: F401

        self.task, self.names = task, tuple(names)
        self.label_free: dict[str, float] = {}  # of the batches that `compute_result` closed
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []
        self._spread: Spread | None = None

    def __call__(self, prediction: EvalPrediction, compute_result: bool | None = None) -> dict[str, float]:
        predictions, labels = _arrays(prediction.predictions), _arrays(prediction.label_ids)
        if self.task in ("regression", "multi-label-classification"):
            chosen, references = np.concatenate(predictions), np.concatenate(labels)
        else:
            ids = [p if p.ndim == y.ndim else p.argmax(-1) for p, y in zip(predictions, labels, strict=True)]
            labelled = [y != IGNORE for y in labels]
            chosen = np.concatenate([p[k] for p, k in zip(ids, labelled, strict=True)])
            references = np.concatenate([y[k] for y, k in zip(labels, labelled, strict=True)])
        if compute_result is None:
            return self._compute(chosen, references) if len(references) else {}
        if self.task in SOFTMAX and predictions[0].ndim > labels[0].ndim:
            self._spread = self._spread or Spread()
            for logits in predictions:
                self._spread.add(logits)
        self._batches.append((chosen, references))
        if not compute_result:
            return {}
        every = [np.concatenate(side) for side in zip(*self._batches, strict=True)]
        self.label_free = self._spread.values() if self._spread is not None else {}
        self._batches, self._spread = [], None
        return self._compute(every[0], every[1]) if len(every[1]) else {}

    def _compute(self, chosen: np.ndarray, references: np.ndarray) -> dict[str, float]:
        if self.task == "regression":
            return regression_metrics(chosen, references)
        if self.task == "multi-label-classification":
            return classification_metrics(
                (chosen > 0).astype(int), references.astype(int), self.names, multilabel=True
            )
        return classification_metrics(chosen, references, self.names)

    def measures(self) -> list[str]:
        """Names of the metrics that it computes."""
        return list(_measures(self.task, self.names))


@cache
def _measures(task: str, names: tuple[str, ...]) -> tuple[str, ...]:
    rows = np.zeros((1, len(names))) if task == "multi-label-classification" else np.zeros(1, int)
    return tuple(TaskMetrics(task, names)._compute(rows, rows))


def zero_without_labels(loss: Any, labels: Any) -> Any:
    """Loss of a batch, or 0 where none of its items has a label: a mean over nothing is NaN.

    In tagging, all of a batch's words may vanish in the tokenizer.
    """
    if labels is None or labels.is_floating_point():
        return loss
    return loss.where((labels != IGNORE).any().to(loss.device), loss.new_zeros(()))


def label_free_metrics(task: str, logits: Any) -> dict[str, float]:
    r"""Label-free metrics: entropy, diversity and information of predictions.

    `entropy`: mean H(p), in nats. `diversity`: H(mean p) / log K, near 0 when one class takes all. `information`:
    H(mean p) - mean H(p), higher is better. Nothing for regression and multi-label.
    """
    if task not in SOFTMAX:
        return {}
    spread = Spread()
    for batch in _arrays(logits):
        spread.add(batch)
    return spread.values()


class Spread:
    """Sums over softmax predictions, batch by batch: how sure each is, and how they spread over the classes."""

    def __init__(self) -> None:
        self.rows, self.entropy = 0, 0.0
        self.mass: np.ndarray | None = None

    def add(self, logits: np.ndarray) -> None:
        """Takes (…, classes) logits; rows that are all -100, padding of gathered tagging batches, are left out."""
        z = np.asarray(logits).astype(np.float64)
        z = z.reshape(-1, z.shape[-1])
        z = z[~np.all(z == IGNORE, axis=1)]
        p = np.exp(z - z.max(1, keepdims=True, initial=-np.inf))
        p /= p.sum(1, keepdims=True)
        self.rows += len(p)
        self.entropy += float(-(p * np.log(np.clip(p, 1e-12, None))).sum())
        self.mass = p.sum(0) if self.mass is None else self.mass + p.sum(0)

    def values(self) -> dict[str, float]:
        """Entropy, diversity and information; nothing of no rows."""
        if self.mass is None or not self.rows:
            return {}
        entropy, mean = self.entropy / self.rows, self.mass / self.rows
        marginal = float(-(mean * np.log(np.clip(mean, 1e-12, None))).sum())
        return {
            "entropy": entropy,
            "diversity": float(marginal / np.log(len(mean))),
            "information": marginal - entropy,
        }


def _arrays(values: Any) -> list[np.ndarray]:
    """Predictions or labels as arrays, one a batch; of several outputs the first."""
    if isinstance(values, tuple):
        values = values[0]
    batches = values if isinstance(values, list) else [values]
    arrays = []
    for batch in batches:
        batch = batch[0] if isinstance(batch, tuple) else batch
        if hasattr(batch, "detach"):  # numpy has no bfloat16
            batch = batch.detach().cpu()
            batch = batch.float() if batch.is_floating_point() else batch
        arrays.append(np.asarray(batch))
    return arrays
