"""Values of a search: what a space, a model and an aim of the user's own give, looked at before optuna does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from ..models.adapters import plain_model


class Honest(dict):
    """Metrics without those that read target labels; asking for one says so."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(
            f"compute_objective reads {key!r}, which is not there. There is {', '.join(map(repr, self))}. What reads "
            "target labels is left out unless allow_oracle_selection=True."
        )

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict, but for what was left out on purpose."""
        return self[key] if key in self or "_oracle_" in str(key) else default


def read_objective(
    compute_objective: Callable[[Any], Any], metrics: dict[str, float], args: Any, direction: Any
) -> float | list[float]:
    """What a function of the user's own makes of the metrics: a number, or one for each direction.

    Args:
        compute_objective: of the metrics, without those that read target labels.
        metrics: of all evaluation sets.
        args: whether `allow_oracle_selection` is on.
        direction: one, or a list of several.

    Raises:
        ValueError: it reads what is not there, or gives something else.
        FloatingPointError: a value is no number: the trial failed, and the search goes on.
    """
    seen = metrics
    if not args.allow_oracle_selection:
        seen = Honest({name: value for name, value in metrics.items() if "_oracle_" not in name})
    found = compute_objective(seen)
    several = isinstance(direction, list)
    values = list(found) if several and isinstance(found, (list, tuple)) else [found]
    if several and len(values) != len(direction):
        raise ValueError(f"compute_objective gives {found!r:.60} for {len(direction)} directions: give one for each.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            one = "a number" if not several else "numbers"
            more = "; for several aims give a list of directions" if isinstance(value, (list, tuple)) else ""
            raise ValueError(f"compute_objective must give {one}, not {type(value).__name__}{more}.")
        if math.isnan(value):
            raise FloatingPointError("compute_objective gives NaN.")
    return [float(value) for value in values] if several else float(values[0])


def check_space(found: Any) -> dict[str, Any]:
    """What `hp_space` gives for a trial.

    Raises:
        TypeError: no map of settings.
    """
    if not isinstance(found, Mapping):
        raise TypeError(f"hp_space must return a dict of settings, not {type(found).__name__}.")
    return dict(found)


def check_fresh(model: Any, first: Any) -> Any:
    """A trial's model, which must be another than the first: it would go on from where the last trial ended.

    Args:
        model: from `model_init`.
        first: of the trainer that searches.

    Raises:
        ValueError: it is the same.
    """
    own, other = map(plain_model, (model, first))
    if own is other and not isinstance(model, str):
        raise ValueError(
            "model_init returns the same model each time, so that a trial would go on from where another ended. Load "
            "or copy it inside the function."
        )
    return model
