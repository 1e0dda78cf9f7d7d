"""Checks of the trainer's constructor: arguments, settings, and what was prepared of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers import Trainer, TrainerCallback

from ...former_names import ARGUMENTS, no_such
from ..config import AdaptationConfig
from .dependent_settings import check_sharding
from .inherited_settings import check_for_model
from .metric_choice import check_selection
from .output_check import check_outputs, label_metrics
from .preparation import Prepared
from .schedule import check_schedule

FUNCTIONS = ("compute_metrics", "preprocess_logits_for_metrics", "data_collator", "model_init")


def check_settings(args: AdaptationConfig) -> None:
    """Refuses what this machine, or this way to start a run, cannot follow.

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
    """Refuses settings that the model and the data of a run cannot follow.

    Args:
        args: the run's settings.
        prepared: from `prepare`.
        compute_metrics: the user's, or `None` for ours.
        preprocess_logits: `preprocess_logits_for_metrics`.

    Raises:
        ValueError: a setting of another kind of model, outputs that no metric could read, or a choice among
            checkpoints by a metric that will not be, or by target labels.
    """
    space = prepared.space
    check_for_model(args, space.task, prepared.model)
    label_free = check_outputs(args, space, compute_metrics, preprocess_logits)
    measures = label_metrics(args, space, compute_metrics)
    check_selection(args, space, prepared.evaluation, prepared.source_names, measures, label_free)


def check_arguments(cls: type, arguments: Mapping[str, Any]) -> None:
    """Check for arguments that there are not, or of the wrong kind, before anything is loaded.

    Args:
        cls: the trainer's class.
        arguments: the constructor's arguments, by name.

    Raises:
        TypeError: an argument that there is not, callbacks that are none, or no function where one is called.
        ValueError: an argument that would have no effect.
    """
    if arguments.get("compute_loss_func") is not None:
        raise ValueError("compute_loss_func has no effect: the loss is the task's plus `objectives`, of one model.")
    known = {
        name
        for made in (cls, *cls.__mro__, Trainer)
        for name, parameter in inspect.signature(made.__init__).parameters.items()  # type: ignore[misc]
        if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for name in arguments:
        if name not in known:
            raise TypeError(no_such(f"{cls.__name__} has no argument", name, sorted(known), ARGUMENTS))
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


def call_model_init(model_init: Callable[..., Any], trial: Any = None) -> Any:
    """A new model: of a function without arguments, or of the trial, as in transformers.

    Args:
        model_init: as the user passed it. It is called with the trial if its first argument has no default, or is
            called `trial`.
        trial: of optuna; `None` outside a search.

    Raises:
        TypeError: it needs more than a trial.
        ValueError: it gives none.
    """
    try:
        parameters = list(inspect.signature(model_init).parameters.values())
    except (TypeError, ValueError):  # a class written in C
        parameters = []
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_trial = bool(positional) and (positional[0].name == "trial" or positional[0].name in needed)
    if set(needed) - {p.name for p in positional[:1]}:
        raise TypeError(
            "model_init must be a function without arguments, or of a trial alone; this one needs "
            f"{', '.join(needed)}."
        )
    model = model_init(trial) if takes_trial else model_init()
    if model is None:
        raise ValueError("model_init gives None; it must return a model, or the name of one.")
    return model


def first_model(model: Any, model_init: Callable[..., Any] | None) -> Any:
    """The model that a trainer is made with: the user's, or a new one.

    Raises:
        ValueError: both a model and a function that makes one.
    """
    if model is not None and model_init is not None:
        raise ValueError("model and model_init are both given: pass one of them.")
    return model if model_init is None else call_model_init(model_init)


def _type_name(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
