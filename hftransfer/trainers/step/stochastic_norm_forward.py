"""Forward with stochastic batch norm: some channels use their running statistics while the model trains."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...models.stochastic_norm import ChannelMix
from ..batch_rows import BatchRows
from .feature_forward import Forward, ForwardOutputs


class MixedNormForward:
    """Forward in which, while the model trains, a `ChannelMix` chooses the statistics of batch norms.

    Args:
        forward: of all rows.
        mix: chooses the channels.
    """

    def __init__(self, forward: Forward, mix: ChannelMix):
        self.forward, self.mix = forward, mix

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        if not model.training:
            return self.forward(model, inputs, rows)
        with self.mix.mixing(model):
            return self.forward(model, inputs, rows)
