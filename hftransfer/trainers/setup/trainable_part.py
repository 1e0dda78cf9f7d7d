"""Trainable part of a run's model: an adapter, or what `trainable` and `freeze` say."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from ...models import adapter_checks, adapters, weight_checks
from ...models.feature_hook import Head, find_head
from ...models.freezing import TrainableReport, check_something_trains, freeze_idle, report_trainable, set_trainable
from ...models.parameter_sets import describe_choice, is_default_choice
from ..config import AdaptationConfig
from .peft_model import head_of, merges_on_save

logger = logging.getLogger(__name__)
FULL_RATE = 5e-5  # TrainingArguments' own default


@dataclass(frozen=True)
class TrainablePart:
    """Model in which everything trainable, and nothing else, requires gradients.

    Args:
        model: PEFT-wrapped if an adapter is trained.
        head: of that model.
        report: what trains and what does not.
        merge_on_save: what is saved is the adapter merged into a plain model.
    """

    model: Any
    head: Head
    report: TrainableReport
    merge_on_save: bool


def apply_trainable(
    model: Any, args: AdaptationConfig, peft_config: Any, probe: dict[str, Any], labelled_rows: int | None
) -> TrainablePart:
    """The adapter of a run, or its settings `trainable` and `freeze`, put on its model.

    Args:
        model: changed in place.
        args: the run's settings.
        peft_config: the adapter to put on the model; `None` without.
        probe: a small batch of model inputs.
        labelled_rows: for `trainable="auto"`; `None` if they cannot be counted; 0 trains no head.

    Raises:
        ValueError, TypeError: adapter and settings contradict each other, nothing would train, or what trains would
            not be saved.
    """
    head = head_of(model, probe)
    if not is_default_choice(args.trainable, args.freeze) and (peft_config is not None or adapters.is_peft(model)):
        choice = describe_choice(args.trainable, args.freeze)
        raise ValueError(f"The adapter decides what trains: leave out {choice}, or the adapter.")
    if peft_config is not None:
        if adapters.is_peft(model):
            raise ValueError("The model is PEFT-wrapped already; pass a peft_config or a wrapped model, not both.")
        adapter_checks.check_adapter_config(model, peft_config, head)
        model = adapters.attach_adapter(model, peft_config, head, probe)
        head = find_head(model, probe)
        report = report_trainable(model, peft_config.peft_type.value.lower())
    else:
        report = set_trainable(model, head, args.trainable, args.freeze, labelled_rows)
    if freeze_idle(model, head):
        report = report_trainable(model, report.choice, report.notes)
    check_something_trains(model)
    weight_checks.check_precision(model, "The model")
    if adapters.is_peft(model):
        adapter_checks.check_adapted_head(model, head, on_purpose=not args.task_weight or labelled_rows == 0)
    merge_on_save = merges_on_save(model, args, peft_config)
    for note in report.notes:
        logger.warning("trainable: %s", note)
    if adapters.is_peft(model) and args.learning_rate <= FULL_RATE:
        logger.warning("learning_rate=%g suits whole models and is low for an adapter: try 1e-3.", args.learning_rate)
    return TrainablePart(model, head, report, merge_on_save)
