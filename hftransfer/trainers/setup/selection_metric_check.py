"""Selection metric check: whether a run can choose by the selection score or a validator."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ...data.domain_arguments import is_source_name
from ...data.label_space import column_names
from ...data.pairing import PairedDataset
from ...extras import install_hint
from ...selection.validators import get_validator
from ..config import AdaptationConfig
from ..metrics import SELECTION_SCORE, SOFTMAX, VALIDATOR, selection_metric
from ..step.perturbed_forward import perturbable_input
from ..teachers.objective_fitting import probe_rows
from .preparation import Prepared


def check_selection_metric(args: AdaptationConfig, prepared: Prepared) -> bool:
    """Check of a `metric_for_best_model` that is the selection score or a validator.

    Args:
        args: the run's settings.
        prepared: from `prepare`.

    Returns:
        Whether it is one of them.

    Raises:
        ValueError: there will be no such metric: another task, no labelled source set, no target rows, a validator
            that there is not or that needs more than one run has; or less of it would be better.
        ImportError: a validator needs a package that is not installed.
    """
    metric = selection_metric(args.metric_for_best_model)
    if metric is None:
        return False
    setting = f"metric_for_best_model={args.metric_for_best_model!r}"
    missing = missing_for_selection(prepared)
    if missing:
        raise ValueError(f"{setting} {missing}")
    if args.greater_is_better is False:
        raise ValueError(
            f"greater_is_better=False would keep the worst checkpoint by {args.metric_for_best_model}, of which more "
            "is better. Leave it out."
        )
    for name in prepared.evaluation or ():
        if f"{name}_" == VALIDATOR:
            raise ValueError(f"{setting} may mean a validator or the evaluation set {name!r}. Rename the set.")
    if metric == SELECTION_SCORE:
        return True
    validator = get_validator(metric.removeprefix(VALIDATOR))
    needs = validator.needs()
    if "reference_probabilities" in needs:
        raise ValueError(f"{setting} compares several models, and a run has one. Choose by {SELECTION_SCORE}.")
    if "mixed" in needs and not can_mix(prepared):
        raise ValueError(
            f"{setting} mixes rows, and these are sentences of tagged words, or a model without token embeddings. "
            f"Choose by {SELECTION_SCORE}."
        )
    if validator.name == "cot" and find_spec("ot") is None:
        raise ImportError(f"{setting} needs POT. Install it with: {install_hint('transport')}")
    return True


def selection_metrics(args: AdaptationConfig, prepared: Prepared) -> tuple[str, ...]:
    """Names of selection metrics to offer in messages: the score, where the run can compute it."""
    return () if missing_for_selection(prepared) else (SELECTION_SCORE,)


def missing_for_selection(prepared: Prepared) -> str:
    """What a run lacks for scores of a source and the target together, as the end of a sentence; empty if nothing."""
    if prepared.label_space.task not in SOFTMAX:
        return f"scores predictions of one class of several; this is {prepared.label_space.task}."
    if not source_sets(prepared):
        return "needs a source's labelled validation rows: pass them in eval_dataset, under a name as 'source'."
    target = target_rows(prepared)
    if target is None:
        return "needs target rows: pass a target set in eval_dataset, or a target_dataset that is no stream."
    if hasattr(target, "__len__") and len(target) < 2:
        return "needs two target rows or more."
    return ""


def can_mix(prepared: Prepared) -> bool:
    """Whether `predict_mixed` can mix two rows: they have one label each, and the model has inputs to mix."""
    if prepared.label_space.task == "token-classification":
        return False
    try:
        perturbable_input(prepared.model, probe_rows(prepared))
    except ValueError:
        return False
    return True


def source_sets(prepared: Prepared) -> dict[str, Any]:
    """Evaluation sets of sources, with labels, by name."""
    sets: Mapping[str, Any] = prepared.evaluation or {}
    return {
        name: rows
        for name, rows in sets.items()
        if is_source_name(name, prepared.source_names) and "labels" in column_names(rows)
    }


def target_rows(prepared: Prepared) -> Any | None:
    """Encoded target rows to score on: the evaluation set `target`, else another one, else those of training."""
    sets = {
        name: rows
        for name, rows in (prepared.evaluation or {}).items()
        if not is_source_name(name, prepared.source_names)
    }
    if sets:
        return sets.get("target", next(iter(sets.values())))
    train = prepared.train
    return train.domain_rows[-1] if isinstance(train, PairedDataset) and train.num_target else None
