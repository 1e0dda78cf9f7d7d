"""Trained part of a model in pre-training: an adapter beside what is new, or what the policy names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ..models.adapters import attach_adapter, is_peft, merge_obstacle
from ..models.feature_hook import Head
from ..models.freezing import TrainableReport, check_something_trains, freeze_idle, report_trainable
from ..models.parameter_sets import describe_choice, is_default_choice
from ..models.weight_checks import check_precision
from .pretraining_config import PretrainingConfig


def check_adapter(peft_config: Any, args: PretrainingConfig) -> None:
    """Check of an adapter's config, which alone decides on what trains.

    Raises:
        TypeError: it is no PEFT config.
        ValueError: a policy besides.
    """
    if not is_default_choice(args.trainable, args.freeze):
        choice = describe_choice(args.trainable, args.freeze)
        raise ValueError(f"The adapter decides what trains: leave out {choice}, or the adapter.")
    if isinstance(peft_config, type) or not hasattr(peft_config, "peft_type"):
        raise TypeError(
            f"peft_config must be a PEFT config such as LoraConfig(r=8), not {type(peft_config).__name__}."
        )


def put_adapter(model: Any, peft_config: Any, head: Head, whole: Sequence[str], probe: Any = None) -> Any:
    """The model with an adapter.

    Args:
        model: plain.
        peft_config: from `check_adapter`.
        head: of the model.
        whole: names of modules that are trained in full beside it: a new head.
        probe: model inputs to find a head of logits by.

    Raises:
        ValueError: PEFT refuses the model.
    """
    peft_config = copy.deepcopy(peft_config)
    if getattr(peft_config, "modules_to_save", None) is None and hasattr(peft_config, "modules_to_save"):
        peft_config.modules_to_save = list(whole)
    return attach_adapter(model, peft_config, head, probe)


def checked_part(model: Any, head: Head, report: TrainableReport, args: PretrainingConfig) -> TrainableReport:
    """Report of what trains, after what would have no effect was frozen.

    Raises:
        ValueError: nothing trains, or an adapter is to be merged that cannot be.
    """
    if freeze_idle(model, head):
        report = report_trainable(model, report.choice, report.notes)
    check_something_trains(model)
    check_precision(model, "The model")
    if args.merge_adapter and is_peft(model) and (reason := merge_obstacle(model)) is not None:
        raise ValueError(f"merge_adapter: {reason}")
    return report
