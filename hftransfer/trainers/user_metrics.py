"""Metrics of a user's own `compute_metrics`: numbers by name, checked before they are logged or saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def checked_metrics(compute_metrics: Callable[..., Any]) -> Callable[..., Any]:
    """A user's `compute_metrics` whose results are read by `read_results`.

    Args:
        compute_metrics: of predictions; with `batch_eval_metrics` also of `compute_result`, and only what it gives
            for the last batch counts.
    """

    def checked(prediction: Any, **keywords: Any) -> Any:
        metrics = compute_metrics(prediction, **keywords)
        return read_results(metrics) if keywords.get("compute_result", True) else metrics

    return checked


def read_results(metrics: Any) -> dict[str, Any]:
    """Metrics as the trainer logs them and writes them into checkpoints: scalars as numbers, arrays as lists.

    Args:
        metrics: what `compute_metrics` returned.

    Raises:
        TypeError: no map, or a value that no file could hold; it is named.

    Example:
        >>> read_results({"accuracy": np.float32(0.5)})
        {'accuracy': 0.5}
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"compute_metrics returns {type(metrics).__name__}; it must return a dict of numbers by name, such as "
            '{"accuracy": 0.5}.'
        )
    return {_name(name): _plain(name, value) for name, value in metrics.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"compute_metrics returns a metric called {name!r}; names must be text.")
    return name


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy and torch
        value = value.detach().float().cpu().tolist() if hasattr(value, "detach") else value.tolist()
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"compute_metrics returns {type(value).__name__} as {name!r}, which cannot be written to a log: return a "
            "number."
        ) from error
    return value
