"""Constructor checks of the trainer: its arguments, its settings and the prepared run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers import Trainer, TrainerCallback

from ...former_names import ARGUMENTS, no_such
from ..config import AdaptationConfig
from .dependent_settings import check_sharding
from .inherited_settings import check_for_model
from .learning_rate_schedule import check_schedule
from .metric_choice_check import check_selection
from .metric_function_check import check_metric_functions, label_metrics
from .preparation import Prepared
from .selection_metric_check import check_selection_metric, selection_metrics

FUNCTIONS = ("compute_metrics", "preprocess_logits_for_metrics", "data_collator", "model_init")


def check_settings(args: AdaptationConfig) -> None:
    """Check of settings against this machine and the way the run was started.

    Raises:
        ValueError: several GPUs without a launcher, or a sharding or schedule that would not do what it says.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible but no launcher started the run, which would use nn.DataParallel. "
            "Start it with `accelerate launch` or `torchrun`, or show it one GPU with CUDA_VISIBLE_DEVICES=0."
        )
    check_sharding(args)
    check_schedule(args)


def check_prepared(
    args: AdaptationConfig,
    prepared: Prepared,
    compute_metrics: Callable[..., dict[str, float]] | None,
    preprocess_logits: Callable[..., Any] | None,
) -> None:
    """Check of settings against the model and the data of a run.

    Args:
        args: the run's settings.
        prepared: from `prepare`.
        compute_metrics: the user's, or `None` for ours.
        preprocess_logits: `preprocess_logits_for_metrics`.

    Raises:
        ValueError: a setting of another kind of model, outputs that no metric could read, or a choice among
            checkpoints by a metric that will not be, or by target labels.
    """
    label_space = prepared.label_space
    check_for_model(args, label_space.task, prepared.model)
    label_free = check_metric_functions(args, label_space, compute_metrics, preprocess_logits)
    if check_selection_metric(args, prepared):
        return
    measures, others = label_metrics(args, label_space, compute_metrics), selection_metrics(args, prepared)
    check_selection(args, label_space, prepared.evaluation, prepared.source_names, measures, label_free, others)


def check_arguments(cls: type, arguments: Mapping[str, Any]) -> None:
    """Check of the constructor's arguments, names and kinds, before anything is loaded.

    Args:
        cls: the trainer's class.
        arguments: the constructor's arguments, by name.

    Raises:
        TypeError: an argument that there is not, callbacks that are none, or no function where one is called.
        ValueError: an argument that would have no effect.
    """
    if arguments.get("compute_loss_func") is not None:
        raise ValueError("compute_loss_func has no effect: the loss is the task's plus `objectives`, of one model.")
    argument_names = {
        name
        for trainer_class in (cls, *cls.__mro__, Trainer)
        for name, parameter in inspect.signature(trainer_class.__init__).parameters.items()  # type: ignore[misc]
        if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for name in arguments:
        if name not in argument_names:
            raise TypeError(no_such(f"{cls.__name__} has no argument", name, sorted(argument_names), ARGUMENTS))
    for name in FUNCTIONS:
        value = arguments.get(name)
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a function, not {type(value).__name__}.")
    callbacks = arguments.get("callbacks")
    if callbacks is None:
        return
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks must be a list of callbacks, not {_type_name(callbacks)}.")
    for callback in callbacks:
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, TrainerCallback):
            raise TypeError(
                f"callbacks holds {_type_name(callback)}, which is no TrainerCallback, nor a class of one."
            )


def _type_name(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
