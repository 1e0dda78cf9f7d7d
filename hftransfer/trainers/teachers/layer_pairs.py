"""What a layer of the model and one of a teacher make of the same rows, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...objectives.base import LayerPair

if TYPE_CHECKING:
    from .teacher import TeacherOutputs

ATTENTION = "attention"  # what a forward's last attention is called beside its features


def positions_of(inputs: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
    """(rows, positions) shares of a row's positions, 0 on padding."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.shape != x.shape[:2]:
        return torch.full(x.shape[:2], 1 / x.shape[1], device=x.device)
    return mask.float() / mask.sum(1, keepdim=True).clamp_min(1)


def layer_pairs(
    current: Mapping[int, torch.Tensor], taught: TeacherOutputs, inputs: Mapping[str, Any], depths: Iterable[int]
) -> list[LayerPair]:
    """Maps of some layers, the model's beside the teacher's."""
    return [LayerPair(current[i].float(), taught.layers[i].float(), positions_of(inputs, current[i])) for i in depths]


def attention_pairs(
    current: torch.Tensor, taught: Sequence[TeacherOutputs], inputs: Mapping[str, Any]
) -> list[LayerPair]:
    """Last layers' attention, the model's beside each teacher's: (rows, queries, heads, keys)."""
    own = current.transpose(1, 2).float()
    share = positions_of(inputs, own)
    return [LayerPair(own, t.attention.transpose(1, 2).float(), share) for t in taught if t.attention is not None]
