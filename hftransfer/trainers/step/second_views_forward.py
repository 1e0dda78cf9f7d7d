"""Second views of the target rows: the same rows again, under another dropout mask or augmentation, or with a span of
tokens hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..batch_rows import BatchRows, has_rows
from .feature_forward import Forward, ForwardOutputs


class SecondViewsForward:
    """Forward with the target rows repeated after all rows, unless the batch has second views.

    Args:
        forward: of all rows and the views.
        change: what is done to the model inputs of the views, by name; nothing when `None`.
    """

    def __init__(self, forward: Forward, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None):
        self.forward, self.change = forward, change

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        if not any(has_rows(v, rows.total_with_views) for v in inputs.values()):
            inputs = {
                k: torch.cat([v, v[rows.num_source :]]) if has_rows(v, rows.total) else v for k, v in inputs.items()
            }
        if self.change is not None:
            views = {k: v[rows.views] for k, v in inputs.items() if has_rows(v, rows.total_with_views)}
            changed = self.change(views)
            _check_shapes(views, changed)
            inputs = inputs | {k: torch.cat([inputs[k][: rows.total], changed[k]]) for k in views}
        return self.forward(model, inputs, rows)


def _check_shapes(views: dict[str, Any], changed: Any) -> None:
    """Check that changed inputs fit the model; raises a `ValueError`."""
    for name, before in views.items():
        after = changed.get(name) if isinstance(changed, dict) else None
        if not isinstance(after, torch.Tensor) or after.shape != before.shape or after.dtype != before.dtype:
            raise ValueError(
                f"The function that makes strong views must return a dict with {name!r} of shape "
                f"{tuple(before.shape)} and type {before.dtype}, as it was given."
            )
