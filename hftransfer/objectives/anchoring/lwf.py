"""Learning without forgetting (LwF), batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from ..base import Objective, Range, TeacherFacts, is_positive
from .row_selection import Rows, inputs_of_rows, softened_divergence
from .teacher_head import check_single_teacher, teacher_head


class LwF(Objective):
    r"""Learning without forgetting.

    On the rows that are trained on, the old head answers as it did before training.

    With z the old head's logits on the model's features as they are now and \(z^0\) the teacher's, without gradient,

    \[\frac{T^2}{r}\sum_i \mathrm{KL}\big(\sigma(z^0_i/T) \,\Vert\, \sigma(z_i/T)\big).\]

    The paper stores \(z^0\) of all rows before training; here the teacher answers batch by batch. Where the teacher
    has the run's labels, the old head *is* the model's head. Where it has others, its head is kept beside the model's,
    trained with it, and saved in checkpoints only. The paper leaves \(T^2\) out; with it the gradient's length hardly
    depends on T (Hinton et al., 2015).

    Args:
        feature_dim, num_classes, teachers: of the run.
        temperature: T.
        rows: `"all"`, `"source"` or `"target"`.

    Shapes: (r, d), (r, K), [(r, K')] -> ().

    Paper: Li and Hoiem, Learning without Forgetting, ECCV 2016.
    """

    paper = "Li and Hoiem, Learning without Forgetting, ECCV 2016"
    at_head = True
    search: ClassVar = {"weight": Range(0.1, 10.0, log=True), "temperature": (1.0, 2.0, 3.0, 4.0)}

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        teachers: Sequence[TeacherFacts] = (),
        temperature: float = 2.0,
        rows: Rows = "all",
    ):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        check_single_teacher(teachers, "lwf")
        self.temperature = temperature
        self.head: nn.Linear | None = None
        if any(not teacher.same_labels for teacher in teachers):
            self.head = teacher_head(feature_dim, num_classes, teachers, "lwf")

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return inputs_of_rows(cls, settings, cls.needs())

    def forward(
        self, features: torch.Tensor, logits: torch.Tensor, teacher_logits: list[torch.Tensor]
    ) -> torch.Tensor:
        student_logits = logits if self.head is None else self.head(features)
        return self.temperature**2 * softened_divergence(teacher_logits[0], student_logits, self.temperature)
