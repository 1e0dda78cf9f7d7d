"""Knowledge distillation: the logits of one teacher or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from ..base import Objective, Range, TeacherFacts, is_positive
from .row_selection import Rows, inputs_of_rows, softened_divergence


class DistillLogits(Objective):
    r"""Knowledge distillation: the model answers as its teachers do.

    Over r rows and M teachers, with z the model's logits and \(z^t\) those of teacher t,

    \[\frac{T^2}{rM}\sum_{i,t} \mathrm{KL}\big(\sigma(z^t_i/T)\,\Vert\,\sigma(z_i/T)\big)\]

    Its gradient is that of one teacher whose probabilities are the mean of all. Teachers must have the run's labels,
    matched by name.

    With weight w the loss is task + w·this, not (1 - α)·task + α·this.

    Args:
        teachers: of the run.
        temperature: T.
        rows: `"all"`, `"source"` or `"target"`.

    Shapes: (r, K), [(r, K)] -> ().

    Paper: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
    """

    paper = "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015"
    search: ClassVar = {"weight": Range(0.1, 10.0, log=True), "temperature": (1.0, 2.0, 4.0)}

    def __init__(self, teachers: Sequence[TeacherFacts] = (), temperature: float = 2.0, rows: Rows = "all"):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        for teacher in teachers:
            if not teacher.same_labels:
                raise ValueError(
                    f"the labels of {teacher.name} ({', '.join(teacher.labels)}) are not the run's. Distil its "
                    "features ('distill_features'), or use 'lwf' or 'co_tuning', which keep a head of its own."
                )
        self.temperature = temperature

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return inputs_of_rows(cls, settings, cls.needs())

    def forward(self, logits: torch.Tensor, teacher_logits: list[torch.Tensor]) -> torch.Tensor:
        values = [softened_divergence(z, logits, self.temperature) for z in teacher_logits]
        return self.temperature**2 * torch.stack(values).mean()
