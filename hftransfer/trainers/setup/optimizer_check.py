"""Check of an optimizer and a schedule that the user passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ...models.adapters import is_peft
from ..config import AdaptationConfig

FILLED_IN = ("params", "model", "optimizer_dict")  # of an optimizer's arguments
UNUSED_SETTINGS = {  # settings of the optimizer and of the schedule that the trainer makes, and their defaults
    "layer_decay": 1.0,
    "head_lr_multiplier": 1.0,
    "backbone_lr_multiplier": 1.0,
    "objective_lr_multiplier": 10.0,
}
REMEDY = (
    'Pass `optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 1e-3})` instead, which is made of everything that '
    "moves, or leave the optimizer to the trainer (`optim`, `learning_rate`)."
)


def check_passed_optimizer(
    optimizers: Any, cls_and_kwargs: Any, joint_model: nn.Module, args: AdaptationConfig
) -> str | None:
    """Check that an optimizer and a schedule that are passed drive what this run trains.

    Args:
        optimizers: `(optimizer, scheduler)`, each may be `None`; or `None`.
        cls_and_kwargs: `(class, its arguments)`, or `None`.
        joint_model: the module that is trained: the user's model and the objectives.
        args: a config.

    Returns:
        The class of the optimizer, if one is passed.

    Raises:
        TypeError: they are of another kind.
        ValueError: the optimizer lacks trainable parameters, the schedule drives another optimizer, or a setting
            would have no effect on them.
    """
    optimizer, scheduler = _pair(optimizers)
    if cls_and_kwargs is not None:
        _check_class(cls_and_kwargs)
        if optimizer is not None:
            raise ValueError("Both optimizers and optimizer_cls_and_kwargs are given: leave out one of them.")
    if optimizer is not None:
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(
                f"optimizers[0] is {_type_name(optimizer)}, not an optimizer. {REMEDY}"
                if isinstance(optimizer, type) or callable(optimizer)
                else f"optimizers[0] must be an optimizer, not {_type_name(optimizer)}."
            )
        check_covers(optimizer, joint_model)
        for name, default in UNUSED_SETTINGS.items():
            if getattr(args, name) != default:
                raise ValueError(
                    f"{name}={getattr(args, name)} has no effect on an optimizer that is passed: it has groups and "
                    f"rates of its own. Leave it out, or leave the optimizer to the trainer."
                )
    if scheduler is not None:
        _check_scheduler(scheduler, optimizer)
    passed = optimizer if cls_and_kwargs is None else cls_and_kwargs[0]
    return None if passed is None else (passed if isinstance(passed, type) else type(passed)).__name__


def check_covers(optimizer: Any, joint_model: nn.Module) -> None:
    """Check that an optimizer holds all trainable parameters; a `ValueError` says how to make one that does."""
    held_ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(joint_model.named_parameters())
    trainable = {name: p for name, p in parameters.items() if p.requires_grad}
    missing = [name for name, p in trainable.items() if id(p) not in held_ids]
    if not missing:
        return
    num_foreign = len(held_ids - {id(p) for p in parameters.values()})
    first_missing = next((n for n in missing if n.startswith("objectives.")), missing[0])
    shown_name = first_missing if first_missing.startswith("objectives.") else first_missing.removeprefix("model.")
    owner = (
        "an objective's, which the trainer makes" if first_missing.startswith("objectives.") else "one of the model's"
    )
    if is_peft(getattr(joint_model, "model", None)) and ".default." in first_missing:
        owner = "one of the adapter's"
    foreign_hint = (
        f" It holds {num_foreign} that are no part of this run's model: those of another copy, or of the model as it "
        "was before an adapter or a new head was put on it."
        if num_foreign
        else ""
    )
    raise ValueError(
        f"The optimizer that was passed lacks {len(missing)} of the {len(trainable)} parameters that are to train: "
        f"{shown_name!r} for one, {owner}.{foreign_hint} {REMEDY}"
    )


def _pair(optimizers: Any) -> tuple[Any, Any]:
    if optimizers is None:
        return None, None
    if not isinstance(optimizers, (tuple, list)) or len(optimizers) != 2:
        raise TypeError(
            f"optimizers must be (optimizer, scheduler), each of which may be None, not {optimizers!r:.80}."
        )
    return optimizers[0], optimizers[1]


def _check_class(cls_and_kwargs: Any) -> None:
    if not isinstance(cls_and_kwargs, (tuple, list)) or len(cls_and_kwargs) != 2:
        raise TypeError(f"optimizer_cls_and_kwargs must be (class, its arguments), not {_type_name(cls_and_kwargs)}.")
    cls, kwargs = cls_and_kwargs
    if not callable(cls) or not isinstance(kwargs, Mapping):
        raise TypeError(
            f"optimizer_cls_and_kwargs must be an optimizer's class and a dict of its arguments, not "
            f"{_type_name(cls)} and {_type_name(kwargs)}."
        )
    for name in FILLED_IN:
        if name in kwargs:
            raise ValueError(
                f"optimizer_cls_and_kwargs names {name!r}: the trainer gives the optimizer everything that moves. "
                "Leave it out."
            )


def _check_scheduler(scheduler: Any, optimizer: Any) -> None:
    if isinstance(scheduler, type) or not hasattr(scheduler, "step"):
        raise TypeError(f"optimizers[1] must be a scheduler, not {_type_name(scheduler)}.")
    if optimizer is None:
        raise ValueError(
            "optimizers=(None, scheduler): the scheduler drives an optimizer of its own, not the one that the trainer "
            "makes. Pass both, or choose the schedule with `lr_scheduler_type`."
        )
    scheduled = getattr(scheduler, "optimizer", optimizer)
    if scheduled is not optimizer:
        raise ValueError(
            "The scheduler that was passed drives another optimizer than the one beside it, whose rates would never "
            "change. Make it of optimizers[0]."
        )


def _type_name(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
