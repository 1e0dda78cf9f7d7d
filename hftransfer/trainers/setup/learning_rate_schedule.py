"""Learning-rate schedules: names and settings, `slanted_triangular` included, checked before loading."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import SchedulerType, get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from ...messages import nearest

SLANTED = "slanted_triangular"
SLANTED_SETTINGS = ("cut_frac", "ratio")
BY_METRIC = ("reduce_lr_on_plateau", "greedy")  # schedules that wait for an evaluation
TRIAL_STEPS = 10  # steps of a schedule
FILLED_BY_TRAINER = (
    "optimizer",
    "num_warmup_steps",
    "num_training_steps",
    "last_epoch",
)  # to a schedule, by the trainer


def schedule_name(args: Any) -> str:
    """Name of the schedule in `lr_scheduler_type`, which is text or transformers' enum."""
    return str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))


def check_schedule_name(args: Any) -> None:
    """Check of a schedule's name; a `ValueError` offers the nearest."""
    name, names = schedule_name(args), [SLANTED, *(kind.value for kind in SchedulerType)]
    if name not in names:
        raise ValueError(f"lr_scheduler_type={name!r} is not one of {', '.join(names)}.{nearest(name, names)}")


@contextmanager
def known_to_transformers(args: Any) -> Iterator[None]:
    """Stand-in for `slanted_triangular` while `TrainingArguments` reads its fields, which would refuse it.

    Args:
        args: is changed, and changed back.
    """
    is_slanted = schedule_name(args) == SLANTED
    if is_slanted:
        args.lr_scheduler_type = SchedulerType.LINEAR.value
    yield
    if is_slanted:
        args.lr_scheduler_type = SLANTED


def check_slanted(args: Any) -> None:
    """Check of the settings of a slanted triangular schedule; raises `ValueError`."""
    if args.lr_scheduler_type != SLANTED:
        return
    for name, value in (args.lr_scheduler_kwargs or {}).items():
        if name not in SLANTED_SETTINGS:
            raise ValueError(
                f"lr_scheduler_kwargs: {SLANTED} has no {name!r}; it has {' and '.join(SLANTED_SETTINGS)}."
                f"{nearest(name, SLANTED_SETTINGS)}"
            )
        low, high = (0, 1) if name == "cut_frac" else (1, float("inf"))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high or not value:
            allowed_range = "between 0 and 1" if name == "cut_frac" else "at least 1"
            raise ValueError(f"lr_scheduler_kwargs: {name}={value!r} must be a number {allowed_range}.")


def check_schedule(args: Any) -> None:
    """Check of a schedule's settings, by making it once before anything is loaded.

    Args:
        args: an `AdaptationConfig`.

    Raises:
        ValueError: it takes no such settings, or lacks one.
    """
    name = schedule_name(args)
    if name == SLANTED:  # ours, read by the config
        return
    settings = dict(args.lr_scheduler_kwargs or {})
    maker: Any = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
    parameters = inspect.signature(maker).parameters
    setting_names = [key for key in parameters if key not in (*FILLED_BY_TRAINER, "kwargs", "name")]
    if settings and name in ("constant", "constant_with_warmup"):
        raise ValueError(
            f"lr_scheduler_kwargs={settings!r} has no effect with lr_scheduler_type={name!r}. Leave it out."
        )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        schedule: Any = get_scheduler(name, optimizer, 1, TRIAL_STEPS, settings)
        for _ in range(TRIAL_STEPS if isinstance(schedule, LRScheduler) and name not in BY_METRIC else 0):
            optimizer.step()
            schedule.step()
    except Exception as error:
        reason = " ".join(str(error).split())
        hint = f" It takes {', '.join(setting_names)}." if setting_names else ""
        raise ValueError(
            f"lr_scheduler_type={name!r} cannot be made with lr_scheduler_kwargs={settings!r}: {reason.rstrip('.')}."
            f"{hint}"
        ) from error
