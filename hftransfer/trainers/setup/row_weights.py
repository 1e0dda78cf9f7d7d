"""Row weights: the settings `source_weights` and `class_weights`, read and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...messages import nearest
from ...settings import read_setting, text_keys


def read_row_weights(setting: str, value: Any) -> dict[str, float]:
    """Weights of source rows by the name of the source or of the class.

    Args:
        setting: `"source_weights"` or `"class_weights"`.
        value: a map of names to weights, or that map as JSON or YAML.

    Raises:
        ValueError: no map, or a weight that is negative or not finite.

    Example:
        >>> read_row_weights("source_weights", '{"papers": 2}')
        {'papers': 2.0}
    """
    weights = read_setting(setting, value)
    if not isinstance(weights, (dict, type(None))):
        raise ValueError(f'{setting} must map names to weights, such as {{"papers": 2.0}}, not {weights!r}.')
    for name, weight in (weights or {}).items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise ValueError(f"{setting}: {name!r} must be a number of at least 0, not {weight!r}.")
    return {name: float(weight) for name, weight in text_keys(weights or {}, setting).items()}


def weights_in_order(setting: str, weights: dict[str, float], names: Sequence[str]) -> list[float]:
    """A weight for each source or class; nothing if all count 1.

    Args:
        setting: `"source_weights"` or `"class_weights"`.
        weights: from `read_row_weights`.
        names: of the sources, or of the classes.

    Raises:
        ValueError: a weight for a name that there is not, or nothing that counts.

    Example:
        >>> weights_in_order("source_weights", {"papers": 2.0}, ("news", "papers"))
        [1.0, 2.0]
    """
    kind = setting.removesuffix("_weights")
    for name in weights:
        if name not in names:
            plural = "classes" if kind == "class" else f"{kind}s"
            raise ValueError(f"{setting} names {name!r}; the {plural} are {', '.join(names)}.{nearest(name, names)}")
    ordered = [weights.get(name, 1.0) for name in names]
    if names and not any(ordered):
        raise ValueError(f"{setting} leaves no {kind} that counts: give one of them a weight above 0.")
    return ordered if weights else []
