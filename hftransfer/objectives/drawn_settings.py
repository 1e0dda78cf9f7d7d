"""Settings of objectives drawn at random from the ranges that a search would look in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .base import Range
from .specification import parse_objectives


def draw_settings(objectives: Any, seed: int) -> dict[str, dict[str, Any]]:
    """Objectives with each setting drawn that has a search range and is not given.

    A `Range` is drawn from evenly, or evenly in its logarithm; of a tuple one value is taken.

    Args:
        objectives: as in `AdaptationConfig.objectives`.
        seed: the same seed draws the same settings.

    Returns:
        Name of each objective -> its settings, those that were given among them.

    Raises:
        ValueError: what `parse_objectives` refuses, or an objective of which nothing is left to draw.

    Example:
        >>> drawn = draw_settings({"im": {"diversity": 1.0}}, seed=0)
        >>> drawn["im"]["diversity"], 0.01 <= drawn["im"]["weight"] <= 1.0
        (1.0, True)
    """
    given = objectives if isinstance(objectives, Mapping) else {}
    drawn: dict[str, dict[str, Any]] = {}
    for number, spec in enumerate(parse_objectives(objectives)):
        value = given.get(spec.name, {})
        settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
        ranges = {key: values for key, values in spec.cls.search_ranges(settings).items() if key not in settings}
        if not ranges:
            raise ValueError(
                f"Nothing of the objective {spec.name!r} is left to draw: all that may be searched is given."
                if spec.cls.search
                else f"The objective {spec.name!r} says no ranges to draw its settings from."
            )
        draw = np.random.default_rng([seed, number])
        drawn[spec.name] = settings | {key: _one(values, draw) for key, values in ranges.items()}
    return drawn


def _one(values: Range | tuple[Any, ...], draw: np.random.Generator) -> Any:
    if not isinstance(values, Range):
        return values[int(draw.integers(len(values)))]
    low, high = (np.log(values.low), np.log(values.high)) if values.log else (values.low, values.high)
    number = draw.uniform(low, high)
    return float(f"{np.exp(number) if values.log else number:.3g}")
