"""Metric choice: which metric may choose a checkpoint, checked before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import EarlyStoppingCallback

from ...data.domain_arguments import is_source_name
from ...data.label_space import LabelSpace
from ...messages import nearest
from ..config import AdaptationConfig
from ..metrics import LABEL_FREE, lower_is_better


def check_evaluation(args: AdaptationConfig, eval_dataset: Any, callbacks: Iterable[Any] | None = None) -> None:
    """Check of settings that need an evaluation.

    Raises:
        ValueError: no rows to evaluate on, a choice among checkpoints without an `eval_strategy`, or early stopping
            without a metric.
    """
    strategy, saving = (_plain_value(value) for value in (args.eval_strategy, args.save_strategy))
    waiting = {
        f"eval_strategy={strategy!r}": strategy != "no",
        "eval_on_start=True": args.eval_on_start,
        "load_best_model_at_end=True": args.load_best_model_at_end,
        "save_strategy='best'": saving == "best",
    }
    if eval_dataset is None:
        for setting, waits in waiting.items():
            if waits:
                raise ValueError(
                    f"{setting} needs rows to evaluate on: pass eval_dataset; in the recipe, give a source a "
                    "validation split, or leave validation_fraction above 0."
                )
    stops = any(
        issubclass(callback if isinstance(callback, type) else type(callback), EarlyStoppingCallback)
        for callback in callbacks or ()
    )
    choosing = {
        "load_best_model_at_end=True": args.load_best_model_at_end,
        "save_strategy='best'": saving == "best",
        "EarlyStoppingCallback": stops,
    }
    for setting, chooses in choosing.items():
        if chooses and strategy == "no":
            raise ValueError(f"{setting} has nothing to choose by: set eval_strategy to 'epoch' or 'steps'.")
        if chooses and args.metric_for_best_model is None:
            raise ValueError(
                f"{setting} needs metric_for_best_model to say what is better, such as 'eval_source_accuracy'."
            )


def check_selection(
    args: AdaptationConfig,
    label_space: LabelSpace,
    evaluation: Mapping[str, Any] | None,
    source_names: tuple[str, ...],
    measures: Sequence[str] | None,
    label_free: Sequence[str] = LABEL_FREE,
    others: Sequence[str] = (),
) -> None:
    """Check of the metric that chooses a checkpoint: it will be there, and it reads no target labels.

    With one evaluation set, a metric need not name it.

    Args:
        args: its `metric_for_best_model` is completed with the name of the only set.
        label_space: the task.
        evaluation: sets by name.
        source_names: of the run.
        measures: those that read labels; `None` where the user's own function makes them.
        label_free: those that read predictions alone, as far as there will be any.
        others: those of no single set, which messages offer.

    Raises:
        ValueError: `metric_for_best_model` names no evaluation set, reads target labels while
            `allow_oracle_selection` is off, or ends in a measure of another task, or of none. What is offered
            instead would be accepted.
    """
    if args.metric_for_best_model is None:
        return
    metric = args.metric_for_best_model.removeprefix("eval_")
    names = tuple(evaluation) if evaluation else ("source",)
    sources = [name for name in names if is_source_name(name, source_names)]
    label_free_here = [
        measure for measure in label_free if label_space.task not in ("regression", "multi-label-classification")
    ]
    allowed = [f"{name}_{measure}" for name in sources for measure in ("loss", *(measures or ()))]
    allowed += [f"{name}_{measure}" for name in names for measure in label_free_here] + list(others)
    if metric == "loss" and len(names) > 1:
        raise ValueError(
            f'metric_for_best_model="loss" does not say of which set; write e.g. "eval_{(sources or names)[0]}_loss".'
        )
    set_name = _set_of(metric, names)
    if set_name is None and len(names) == 1:
        set_name, metric = names[0], f"{names[0]}_{metric}"
        args.metric_for_best_model = f"eval_{metric}"
    if set_name is None:
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r} names none of the evaluation sets "
            f"({', '.join(names)}); metrics are called eval_<set>_<metric>."
            f"{_offer(metric, allowed, sources, measures)}"
        )
    measure = metric.removeprefix(f"{set_name}_")
    is_source, oracle = set_name in sources, measure.removeprefix("oracle_")
    if not is_source and measure not in LABEL_FREE and not (args.allow_oracle_selection and oracle != measure):
        remedies = [
            "a source metric",
            *([f"by {', '.join(f'eval_{set_name}_{m}' for m in label_free_here)}"] if label_free_here else []),
        ]
        is_computed = measures is None or oracle in ("loss", *measures)
        all_the_same = f"; `allow_oracle_selection=True` does it all the same, as eval_{set_name}_oracle_{oracle}"
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r} reads the labels of {set_name!r}, which is not a "
            f"source: a checkpoint chosen by it says nothing of a target without labels. Choose by "
            f"{' or '.join(remedies)}{all_the_same * is_computed}."
        )
    _check_direction(
        args, metric=measure if is_source else oracle, our_metrics=("loss", *(measures or ()), *LABEL_FREE)
    )
    metric_names = ["loss", *(measures or ()), *label_free_here]
    chosen = measure if is_source else oracle
    if evaluation and (measures is not None or measure in LABEL_FREE) and chosen not in metric_names:
        listed = [m for m in metric_names if "_" not in m or m.startswith(("macro", "micro"))]
        not_kept = " What reads predictions alone needs all logits, which these settings do not keep."
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r}: {label_space.task} has no metric {chosen!r}; it "
            f"has {', '.join(listed)}.{not_kept * (measure in LABEL_FREE and not label_free)}"
            f"{nearest(chosen, [*metric_names, *others])}"
        )


def set_of(metric: str | None, names: Iterable[str]) -> str | None:
    """Evaluation set of a metric, by the metric's name; the longest that fits."""
    return _set_of(metric.removeprefix("eval_"), names) if metric else None


def _set_of(metric: str, names: Iterable[str]) -> str | None:
    return max((name for name in names if metric.startswith(f"{name}_")), key=len, default=None)


def _check_direction(args: AdaptationConfig, metric: str, our_metrics: Sequence[str]) -> None:
    """Check that `greater_is_better` fits one of our metrics; raises `ValueError`."""
    less_is_better = lower_is_better(metric)
    if metric in our_metrics and args.greater_is_better is not None and bool(args.greater_is_better) == less_is_better:
        raise ValueError(
            f"greater_is_better={args.greater_is_better} would keep the worst checkpoint by "
            f"{args.metric_for_best_model}, of which {'less' if less_is_better else 'more'} is better. Leave it out."
        )


def _offer(metric: str, allowed: list[str], sources: list[str], measures: Sequence[str] | None) -> str:
    """Hint with the nearest metric that would be accepted."""
    if sources and (metric in measures if measures is not None else "_" not in metric):
        return f" Did you mean '{sources[0]}_{metric}'?"
    return nearest(metric, allowed)


def _plain_value(value: Any) -> str:
    return str(getattr(value, "value", value))
