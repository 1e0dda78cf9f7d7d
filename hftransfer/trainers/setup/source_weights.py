"""Source weights: the setting `source_weights`, read and checked."""

from __future__ import annotations

import math
from typing import Any

from ...messages import nearest
from ...settings import read_setting


def read_source_weights(source_weights: Any) -> dict[str, float]:
    """Weights of source rows by the source's name.

    Args:
        source_weights: a map of names to weights, or that map as JSON or YAML.

    Raises:
        ValueError: no map, or a weight that is negative or not finite.

    Example:
        >>> read_source_weights('{"papers": 2}')
        {'papers': 2.0}
    """
    weights = read_setting("source_weights", source_weights)
    if not isinstance(weights, (dict, type(None))):
        raise ValueError(f'source_weights must map names to weights, such as {{"papers": 2.0}}, not {weights!r}.')
    for name, weight in (weights or {}).items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise ValueError(f"source_weights: {name!r} must be a number of at least 0, not {weight!r}.")
    return {str(name): float(weight) for name, weight in (weights or {}).items()}


def weights_in_order(weights: dict[str, float], sources: tuple[str, ...]) -> list[float]:
    """A weight for each source; nothing if all count 1.

    Args:
        weights: from `read_source_weights`.
        sources: names of the sources.

    Raises:
        ValueError: a weight for a source that there is not, or no source that counts.

    Example:
        >>> weights_in_order({"papers": 2.0}, ("news", "papers"))
        [1.0, 2.0]
    """
    for name in weights:
        if name not in sources:
            raise ValueError(
                f"source_weights names {name!r}; the sources are {', '.join(sources)}.{nearest(name, sources)}"
            )
    ordered = [weights.get(name, 1.0) for name in sources]
    if not any(ordered):
        raise ValueError("source_weights leaves no source that counts: give one of them a weight above 0.")
    return ordered if weights else []
