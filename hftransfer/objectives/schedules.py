"""Weight schedules: pure functions of training progress, a tensor between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

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


def get_schedule(spec: str | dict[str, Any]) -> Schedule:
    """A schedule by name, or by `{"name": "warm_start", "gamma": 5.0}`.

    Raises:
        ValueError: an unknown name or setting.
    """
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r} is not one of {', '.join(SCHEDULES)}.")
    known = ("gamma",) if name == "warm_start" else ()
    if set(settings) - set(known):
        raise ValueError(f"schedule {name!r} has no setting {sorted(set(settings) - set(known))[0]!r}.")
    return partial(SCHEDULES[name], **settings)
