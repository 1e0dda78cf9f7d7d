"""Weight schedules: pure functions of training progress, a tensor between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ..messages import nearest
from .base import is_positive

Schedule = Callable[[torch.Tensor], torch.Tensor]


def constant(progress: torch.Tensor) -> torch.Tensor:
    """1 throughout."""
    return torch.ones_like(progress)


def linear(progress: torch.Tensor) -> torch.Tensor:
    """Rises from 0 to 1 in a straight line."""
    return progress


def warm_start(progress: torch.Tensor, gamma: float = 10.0) -> torch.Tensor:
    r"""Ganin's warm-start: \(2 / (1 + e^{-\gamma p}) - 1\); 0 at the start, 0.99 at half way with γ = 10.

    Paper: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016.
    """
    return 2 / (1 + torch.exp(-gamma * progress)) - 1


SCHEDULES: dict[str, Callable[..., torch.Tensor]] = {"constant": constant, "linear": linear, "warm_start": warm_start}


# At full strength an alignment term was seen to take three to four points of a pretrained encoder's accuracy on its
# own source (press releases -> PubMed, batch 16), at a tenth under three. Weight 1 means this unless the user says so.
GENTLE: dict[str, Any] = {"name": "warm_start", "peak": 0.1}

# Of those that took more than that at a tenth, or left the target's predictions far less decided.
GENTLER: dict[str, Any] = GENTLE | {"peak": 0.03}


def get_schedule(spec: str | Mapping[str, Any]) -> Schedule:
    """A schedule by name, or by `{"name": "warm_start", "gamma": 5.0, "peak": 0.1}`; `peak` is its value at the end.

    Raises:
        ValueError: an unknown name or setting (the nearest is offered), a gamma that is not positive or a peak that is
            negative.
    """
    if not isinstance(spec, (str, Mapping)):
        raise ValueError(f'schedule {spec!r} must be a name, or a map such as {{"name": "warm_start", "gamma": 5}}.')
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is not one of {', '.join(SCHEDULES)}.{nearest(name, SCHEDULES)}")
    peak = settings.pop("peak", 1.0)
    if isinstance(peak, bool) or not isinstance(peak, (int, float)) or not 0 <= peak < math.inf:
        raise ValueError(f"schedule {name!r}: peak must be a number of at least 0, not {peak!r}.")
    known = ("gamma",) if name == "warm_start" else ()
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"schedule {name!r} has no setting {key!r}.{nearest(key, [*known, 'peak'])}")
        if not is_positive(value):
            raise ValueError(f"{key}={value!r} of schedule {name!r} must be a positive number.")
    shape = partial(SCHEDULES[name], **settings)
    return shape if peak == 1 else lambda progress: peak * shape(progress)


def describe_schedule(spec: str | dict[str, Any]) -> str:
    """`"warm_start to 0.1"`."""
    if isinstance(spec, str):
        return spec
    extra = "".join(f", {k} {v:g}" for k, v in spec.items() if k not in ("name", "peak"))
    return f"{spec['name']}{extra}" + (f" to {spec['peak']:g}" if "peak" in spec else "")
