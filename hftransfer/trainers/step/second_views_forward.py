"""Second views of the target rows: the same rows again, under another dropout mask or augmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..batch_rows import BatchRows, has_rows
from .feature_forward import Forward, ForwardOutputs


class SecondViewsForward:
    """Forward with the target rows repeated after all rows, unless the batch has second views.

    Args:
        forward: of all rows and the views.
    """

    def __init__(self, forward: Forward):
        self.forward = forward

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        if not any(has_rows(v, rows.total_with_views) for v in inputs.values()):
            inputs = {
                k: torch.cat([v, v[rows.num_source :]]) if has_rows(v, rows.total) else v for k, v in inputs.items()
            }
        return self.forward(model, inputs, rows)
