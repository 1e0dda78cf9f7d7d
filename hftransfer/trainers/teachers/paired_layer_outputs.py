"""Layer pairs: outputs of a layer of the model and of one of a teacher, on the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ...objectives.base import LayerPair
from .teacher import TeacherOutputs


def positions_of(inputs: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
    """Weights of a row's positions, (rows, positions): equal ones, 0 on padding."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.shape != x.shape[:2]:
        return torch.full(x.shape[:2], 1 / x.shape[1], device=x.device)
    return mask.float() / mask.sum(1, keepdim=True).clamp_min(1)


def layer_pairs(
    current: Mapping[int, torch.Tensor], teacher: TeacherOutputs, inputs: Mapping[str, Any], indices: Iterable[int]
) -> list[LayerPair]:
    """Layer pairs: outputs of some layers, the model's beside the teacher's."""
    return [
        LayerPair(current[i].float(), teacher.layers[i].float(), positions_of(inputs, current[i])) for i in indices
    ]


def attention_pairs(
    current: torch.Tensor, teachers: Sequence[TeacherOutputs], inputs: Mapping[str, Any]
) -> list[LayerPair]:
    """Attention pairs of the last layers, the model's beside each teacher's: (rows, queries, heads, keys)."""
    attention = current.transpose(1, 2).float()
    share = positions_of(inputs, attention)
    return [
        LayerPair(attention, t.attention.transpose(1, 2).float(), share) for t in teachers if t.attention is not None
    ]
