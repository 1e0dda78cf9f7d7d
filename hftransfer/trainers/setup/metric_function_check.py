"""Metric functions of the user: `compute_metrics` and `preprocess_logits_for_metrics`, checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...data.label_space import LabelSpace
from ...messages import nearest
from ..config import AdaptationConfig
from ..metrics import LABEL_FREE, SOFTMAX, TaskMetrics

FOR_METRICS = ("inputs", "loss")


def check_metric_functions(
    args: AdaptationConfig,
    label_space: LabelSpace,
    compute_metrics: Callable[..., dict[str, float]] | None,
    preprocess: Callable[..., Any] | None,
) -> Sequence[str]:
    """Check of the user's metric functions, before training instead of at the first evaluation.

    Args:
        args: of the run.
        label_space: the task.
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
            suggestion = nearest(name, FOR_METRICS)
            raise ValueError(
                f"include_for_metrics: there is no {name!r}; there is {' and '.join(FOR_METRICS)}.{suggestion}"
            )
    if compute_metrics is None:
        if args.include_for_metrics:
            raise ValueError(
                f"include_for_metrics={args.include_for_metrics!r} has no effect: our metrics read logits and labels "
                "alone. Leave it out, or pass compute_metrics of your own."
            )
        if preprocess is not None:
            _try_preprocess(label_space, preprocess)
    elif args.batch_eval_metrics and not _takes(compute_metrics, "compute_result"):
        raise ValueError(
            "batch_eval_metrics=True calls compute_metrics with each batch and with compute_result=True at the last, "
            "and yours has no argument compute_result. Add it, or leave batch_eval_metrics off."
        )
    loses_logits = args.prediction_loss_only or preprocess is not None
    loses_logits = loses_logits or (args.batch_eval_metrics and compute_metrics is not None)
    return () if loses_logits or label_space.task not in SOFTMAX else LABEL_FREE


def label_metrics(
    args: AdaptationConfig, label_space: LabelSpace, compute_metrics: Callable[..., dict[str, float]] | None
) -> Sequence[str] | None:
    """Names of the metrics that read labels, but for the loss; `None` where the user's own function makes them."""
    if args.prediction_loss_only:
        return ()
    return TaskMetrics(label_space.task, label_space.names).measures() if compute_metrics is None else None


def _try_preprocess(label_space: LabelSpace, preprocess: Any) -> None:
    """Check that our metrics can read what the function returns for logits; raises `ValueError`."""
    classes = max(1, len(label_space.names))
    rows = (2, 3) if label_space.task == "token-classification" else (2,)
    shape = (*rows, classes)
    labels = torch.zeros(rows if label_space.task != "multi-label-classification" else shape)
    labels = labels if label_space.is_float else labels.long()
    logits = torch.tensor([-1.5, 0.5, 2.0, -0.25]).repeat(math.prod(shape))[: math.prod(shape)].view(shape)
    try:
        result = preprocess(logits.clone(), labels)
    except Exception as error:
        raise ValueError(
            f"preprocess_logits_for_metrics fails on logits of shape {shape}, which this model gives: {error}"
        ) from error
    result = result[0] if isinstance(result, (tuple, list)) and result else result
    if isinstance(result, torch.Tensor):
        if label_space.task == "multi-label-classification" and result.shape == logits.shape:
            if torch.equal(result > 0, logits > 0):
                return
            raise ValueError(
                "preprocess_logits_for_metrics moves the threshold: our metrics take a label as chosen where its "
                "value is above 0. Return logits, or 0 and 1, or pass compute_metrics of your own."
            )
        are_scores = label_space.task == "regression" and result.numel() == labels.numel()
        are_ids = label_space.task in SOFTMAX and result.shape == labels.shape and not result.is_floating_point()
        if are_scores or are_ids or result.shape == logits.shape:
            return
    output = (
        f"shape {tuple(result.shape)} ({result.dtype})" if isinstance(result, torch.Tensor) else type(result).__name__
    )
    readable = f"logits {shape}" + (f" or class ids {rows}" if label_space.task in SOFTMAX else "")
    raise ValueError(
        f"preprocess_logits_for_metrics makes {output} of logits of shape {shape}, where our metrics read {readable}. "
        "Return one of them, or pass compute_metrics of your own."
    )


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)
