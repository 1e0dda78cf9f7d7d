"""Refuses to choose a checkpoint by target labels, or by a metric that there will not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..data.frames import is_columns
from ..data.labels import LabelSpace
from ..messages import nearest
from .config import AdaptationConfig
from .metrics import LABEL_FREE, label_free_metrics, metrics_for
from .preparation import is_source_name


def check_selection(args: AdaptationConfig, eval_dataset: Any, train_dataset: Any) -> None:
    """Refuses to choose a checkpoint by target labels. With one evaluation set, a metric need not name it.

    Raises:
        ValueError: `metric_for_best_model` names no evaluation set, or it reads target labels and
            `allow_oracle_selection` is off.
    """
    if args.metric_for_best_model is None:
        return
    eval_dataset, train_dataset = (None if is_columns(given) else given for given in (eval_dataset, train_dataset))
    metric = args.metric_for_best_model.removeprefix("eval_")
    if metric == "loss" and isinstance(eval_dataset, dict):
        raise ValueError('metric_for_best_model="loss" does not say of which set; write e.g. "eval_source_loss".')
    if not isinstance(eval_dataset, dict):
        metric = metric if metric.startswith("source_") else f"source_{metric}"
        args.metric_for_best_model = f"eval_{metric}"
    sources = tuple(train_dataset) if isinstance(train_dataset, dict) else ("source",)
    names = tuple(eval_dataset) if isinstance(eval_dataset, dict) else ("source",)
    for name in sorted(names, key=len, reverse=True):
        if metric.startswith(f"{name}_"):
            measure = metric.removeprefix(f"{name}_")
            if is_source_name(name, sources) or measure in LABEL_FREE:
                return
            if args.allow_oracle_selection and measure.startswith("oracle_"):
                return
            raise ValueError(
                f"metric_for_best_model={args.metric_for_best_model!r} reads the labels of {name!r}, which is not a "
                "source: a checkpoint chosen by it says nothing of a target without labels. Choose by a source metric "
                f"or by {', '.join(f'eval_{name}_{m}' for m in LABEL_FREE)}; `allow_oracle_selection=True` does it "
                f"all the same, as eval_{name}_oracle_{measure.removeprefix('oracle_')}."
            )
    hint = nearest(metric, [f"{n}_accuracy" for n in names])
    raise ValueError(
        f"metric_for_best_model={args.metric_for_best_model!r} names none of the evaluation sets "
        f"({', '.join(names)}); metrics are called eval_<set>_<metric>.{hint}"
    )


def check_measure(args: AdaptationConfig, space: LabelSpace, evaluation: Mapping[str, Any] | None) -> None:
    """Refuses a measure that our metrics do not hold, before training instead of at the first evaluation.

    Raises:
        ValueError: `metric_for_best_model` ends in a measure of another task, or of none.
    """
    if args.metric_for_best_model is None or not evaluation:
        return
    wanted = args.metric_for_best_model.removeprefix("eval_")
    name = max((n for n in evaluation if wanted.startswith(f"{n}_")), key=len, default=None)
    if name is None:
        return
    measure = wanted.removeprefix(f"{name}_").removeprefix("oracle_")
    labels = np.zeros((1, len(space.names)) if space.is_float else 1)
    if space.task == "token-classification":
        labels = np.zeros((1, 1))
    logits = np.zeros((*labels.shape, len(space.names))) if not space.is_float else labels
    known = ["loss", *metrics_for(space.task, space.names)(EvalPrediction(logits, labels.astype(int)))]
    known += label_free_metrics(space.task, logits)
    if measure not in known:
        shown = [m for m in known if "_" not in m or m.startswith(("macro", "micro"))]
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r}: {space.task} has no metric {measure!r}; it has "
            f"{', '.join(shown)}.{nearest(measure, known)}"
        )
