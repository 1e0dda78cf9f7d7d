"""The teacher's head beside the model's: trained with it, on the model's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..base import TeacherFacts


def teacher_head(feature_dim: int, num_classes: int, teachers: Sequence[TeacherFacts], objective: str) -> nn.Linear:
    """A linear layer with the weights of the only teacher's final layer; without a teacher, freshly drawn.

    Raises:
        ValueError: several teachers, or features of another width than the teacher's.
    """
    check_single_teacher(teachers, objective)
    if not teachers or teachers[0].head is None:
        return nn.Linear(feature_dim, num_classes)
    teacher = teachers[0]
    if teacher.feature_dim != feature_dim:
        raise ValueError(
            f"{objective} puts the teacher's head on the model's own features, but those of {teacher.name} are "
            f"{teacher.feature_dim} wide and the model's {feature_dim}. Use 'distill_logits' between different models."
        )
    assert teacher.head is not None
    weight, bias = teacher.head
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def check_single_teacher(teachers: Sequence[TeacherFacts], objective: str) -> None:
    """Check that there is at most one teacher. Raises a `ValueError`."""
    if len(teachers) > 1:
        names = ", ".join(teacher.name for teacher in teachers)
        raise ValueError(
            f"{objective} keeps what one teacher knows; there are {len(teachers)}: {names}. 'distill_logits' takes "
            "several."
        )
