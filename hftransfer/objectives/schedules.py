"""Weight schedules: pure functions of training progress, a tensor between 0 and 1, which end at 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ..former_names import SCHEDULES as FORMER
from ..former_names import no_such
from ..messages import nearest
from .base import is_positive

Schedule = Callable[[torch.Tensor], torch.Tensor]


def constant(progress: torch.Tensor) -> torch.Tensor:
    """Constant schedule: 1 throughout."""
    return torch.ones_like(progress)


def linear(progress: torch.Tensor) -> torch.Tensor:
    """Linear schedule, from 0 to 1."""
    return progress


def warm_start(progress: torch.Tensor, gamma: float = 10.0) -> torch.Tensor:
    r"""Warm start (Ganin): \(2 / (1 + e^{-\gamma p}) - 1\); 0 at the start, 0.99 at half way with γ = 10.

    Paper: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016.
    """
    return 2 / (1 + torch.exp(-gamma * progress)) - 1


SCHEDULES: dict[str, Callable[..., torch.Tensor]] = {"constant": constant, "linear": linear, "warm_start": warm_start}


def get_schedule(spec: str | Mapping[str, Any]) -> Schedule:
    """A schedule by name, or by `{"name": "warm_start", "gamma": 5.0}`.

    Raises:
        ValueError: an unknown name or setting (the nearest is offered), or a gamma that is not positive.
    """
    if not isinstance(spec, (str, Mapping)):
        raise ValueError(f'schedule {spec!r} must be a name, or a map such as {{"name": "warm_start", "gamma": 5}}.')
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is not one of {', '.join(SCHEDULES)}.{nearest(name, SCHEDULES)}")
    names = ("gamma",) if name == "warm_start" else ()
    for key, value in settings.items():
        if key not in names:
            raise ValueError(no_such(f"schedule {name!r} has no setting", key, names, FORMER))
        if not is_positive(value):
            raise ValueError(f"{key}={value!r} of schedule {name!r} must be a positive number.")
    return partial(SCHEDULES[name], **settings)


def describe_schedule(spec: str | dict[str, Any]) -> str:
    """Text of a schedule, such as `"warm_start, gamma 5"`."""
    if isinstance(spec, str):
        return spec
    return spec["name"] + "".join(f", {k} {v:g}" for k, v in spec.items() if k != "name")


def is_weight(value: Any) -> bool:
    """Whether a value is a finite number of at least 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
