"""Feature distillation from one teacher or several, through learned projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ..base import Objective, Range, TeacherFacts
from .row_selection import Rows, inputs_of_rows


class DistillFeatures(Objective):
    r"""Feature distillation: the model represents rows as its teachers do.

    Over r rows and M teachers, with h the model's features and \(h^t\) those of teacher t, \(d_t\) wide,

    \[\frac{1}{rM}\sum_{i,t} \tfrac1{d_t}\lVert W_t h_i + b_t - h^t_i\rVert^2\]

    \(W_t, b_t\) are learned with the model and thrown away with the run; where the widths are equal they start as the
    identity. So a student may have any width. The teachers' labels do not matter.

    With weight w the loss is task + w·this, not (1 - α)·task + α·this.

    Args:
        feature_dim, teachers: of the run.
        rows: `"all"`, `"source"` or `"target"`.

    Shapes: (r, d), [(r, d')] -> ().

    Paper: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015.
    """

    paper = "Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015"
    search: ClassVar = {"weight": Range(0.1, 10.0, log=True)}

    def __init__(self, feature_dim: int, teachers: Sequence[TeacherFacts] = (), rows: Rows = "all"):
        super().__init__()
        widths = [teacher.feature_dim for teacher in teachers] or [feature_dim]
        self.projections = nn.ModuleList(_projection(feature_dim, width) for width in widths)

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return inputs_of_rows(cls, settings, cls.needs())

    def forward(self, features: torch.Tensor, teacher_features: list[torch.Tensor]) -> torch.Tensor:
        pairs = zip(self.projections, teacher_features, strict=True)
        return torch.stack([(project(features) - h).square().mean() for project, h in pairs]).mean()


def _projection(width: int, teacher_width: int) -> nn.Linear:
    """Linear projection to the teacher's width; of equal widths it starts as the identity."""
    layer = nn.Linear(width, teacher_width)
    if width == teacher_width:
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer
