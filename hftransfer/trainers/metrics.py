"""What evaluation reports. Numbers come from scikit-learn; `evaluate_modules.py` offers them as `evaluate` metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

IGNORE = -100
LABEL_FREE = ("entropy", "diversity", "information")


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

    present = (
        list(range(len(names))) if multilabel else sorted(set(np.unique(references)) | set(np.unique(predictions)))
    )
    out = {"accuracy": float(accuracy_score(references, predictions))}
    for average in ("macro", "micro"):
        p, r, f, _ = precision_recall_fscore_support(
            references, predictions, labels=present, average=average, zero_division=0
        )
        out |= {f"{average}_f1": float(f), f"{average}_precision": float(p), f"{average}_recall": float(r)}
    p, r, f, _ = precision_recall_fscore_support(
        references, predictions, labels=list(range(len(names))), average=None, zero_division=0
    )
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


def metrics_for(task: str, names: Sequence[str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """The `compute_metrics` of a task."""
    if task != "regression":
        # Now, before seeds are set: what this import brings along draws from Python's random state, which would make
        # a resumed run, in another process, draw once more than one that was left alone.
        import sklearn.metrics  # noqa: F401

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = _logits(prediction.predictions), np.asarray(prediction.label_ids)
        if task == "regression":
            return regression_metrics(logits, labels)
        if task == "multi-label-classification":
            return classification_metrics((logits > 0).astype(int), labels.astype(int), names, multilabel=True)
        known = labels != IGNORE
        if not known.any():
            return {}
        return classification_metrics(logits.argmax(-1)[known], labels[known], names)

    return compute


def without_nothing(loss: Any, labels: Any) -> Any:
    """A batch's loss, or 0 where none of its items has a label (its words vanished in the tokenizer): a mean over
    nothing is NaN."""
    if labels is None or labels.is_floating_point():
        return loss
    return loss.where((labels != IGNORE).any().to(loss.device), loss.new_zeros(()))


def label_free_metrics(task: str, logits: Any) -> dict[str, float]:
    r"""What can be said of predictions alone.

    `entropy`: mean H(p), in nats. `diversity`: H(mean p) / log K, near 0 when one class takes all. `information`:
    H(mean p) - mean H(p), higher is better. Nothing for regression and multi-label.
    """
    if task in ("regression", "multi-label-classification"):
        return {}
    z = _logits(logits).astype(np.float64)
    z = z.reshape(-1, z.shape[-1])
    z = z[~np.all(z == IGNORE, axis=1)]  # padding of gathered tagging batches
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    entropy = float(-(p * np.log(np.clip(p, 1e-12, None))).sum(1).mean())
    mean = p.mean(0)
    marginal = float(-(mean * np.log(np.clip(mean, 1e-12, None))).sum())
    return {"entropy": entropy, "diversity": float(marginal / np.log(p.shape[1])), "information": marginal - entropy}


def _logits(predictions: Any) -> np.ndarray:
    return np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions)
