"""Forward from stored states: the frozen layers of the model do not run where a batch brings what they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...data.pairing import FROZEN_STATES
from ...models.frozen_layers import FrozenLayers
from ..batch_rows import BatchRows
from .feature_forward import Forward, ForwardOutputs


class FrozenLayersForward:
    """Forward that begins above the frozen layers, where a batch holds their states; any other goes through unchanged.

    Args:
        forward: runs the model.

    Attributes:
        layers: the frozen layers whose states batches may hold; `None` while they hold none.
        dtype: of the hidden states when the model makes them itself.
    """

    def __init__(self, forward: Forward):
        self.forward = forward
        self.layers: FrozenLayers | None = None
        self.dtype = torch.float32

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        states = inputs.get(FROZEN_STATES)
        model_inputs = without_states(inputs)
        if states is None or self.layers is None:
            return self.forward(model, model_inputs, rows)
        with self.layers.replaced(model, states.to(self.dtype)):
            return self.forward(model, model_inputs, rows)


def without_states(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a batch that the model itself reads, without stored states."""
    return {key: value for key, value in inputs.items() if key != FROZEN_STATES}
