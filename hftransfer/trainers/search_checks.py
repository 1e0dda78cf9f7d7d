"""Checks of a search: values of the user's `hp_space`, `model_init` and `compute_objective`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from ..models.adapters import plain_model
from .config import AdaptationConfig


class Honest(dict):
    """Metrics without oracle ones; reading one raises an error that says so."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(
            f"compute_objective reads {key!r}, which is not there. There is {', '.join(map(repr, self))}. What reads "
            "target labels is left out unless allow_oracle_selection=True."
        )

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict, but for what was left out on purpose."""
        return self[key] if key in self or "_oracle_" in str(key) else default


def read_objective(
    compute_objective: Callable[[Any], Any],
    metrics: dict[str, float],
    args: AdaptationConfig,
    direction: str | list[str],
) -> float | list[float]:
    """Value of a user's `compute_objective`: a number, or one for each direction.

    Args:
        compute_objective: of the metrics, without those that read target labels.
        metrics: of all evaluation sets.
        args: whether `allow_oracle_selection` is on.
        direction: one, or a list of several.

    Raises:
        ValueError: it reads what is not there, or gives something else.
        FloatingPointError: a value is no number: the trial failed, and the search goes on.
    """
    readable = metrics
    if not args.allow_oracle_selection:
        readable = Honest({name: value for name, value in metrics.items() if "_oracle_" not in name})
    objective = compute_objective(readable)
    several = isinstance(direction, list)
    values = list(objective) if several and isinstance(objective, (list, tuple)) else [objective]
    if several and len(values) != len(direction):
        raise ValueError(
            f"compute_objective gives {objective!r:.60} for {len(direction)} directions: give one for each."
        )
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            expected = "a number" if not several else "numbers"
            hint = "; for several aims give a list of directions" if isinstance(value, (list, tuple)) else ""
            raise ValueError(f"compute_objective must give {expected}, not {type(value).__name__}{hint}.")
        if math.isnan(value):
            raise FloatingPointError("compute_objective gives NaN.")
    return [float(value) for value in values] if several else float(values[0])


def check_space(settings: Any) -> dict[str, Any]:
    """Settings that `hp_space` gives for a trial.

    Raises:
        TypeError: no map of settings.
    """
    if not isinstance(settings, Mapping):
        raise TypeError(f"hp_space must return a dict of settings, not {type(settings).__name__}.")
    return dict(settings)


def check_fresh(model: Any, searching_model: Any) -> Any:
    """Check that a trial's model is a new one; otherwise it would go on from where the last trial ended.

    Args:
        model: from `model_init`.
        searching_model: of the trainer that searches.

    Raises:
        ValueError: it is the same.
    """
    new_model, first_model = map(plain_model, (model, searching_model))
    if new_model is first_model and not isinstance(model, str):
        raise ValueError(
            "model_init returns the same model each time, so that a trial would go on from where another ended. Load "
            "or copy it inside the function."
        )
    return model
