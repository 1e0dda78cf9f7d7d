"""Knowledge distillation: logits, features or attention, from one teacher or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ..base import LayerPair, Objective, Range, TeacherFacts, is_positive
from .rows import Rows, check_rows, of_rows, setting, softened_divergence

ARGUMENTS = {
    "logits": ("logits", "teacher_logits"),
    "features": ("features", "teacher_features"),
    "attention": ("attention_pairs",),
}


class Distill(Objective):
    r"""The model answers, represents or attends as its teachers do.

    Over r rows and M teachers (z logits, h features, a attention; those of teacher t have its number):

    \[\text{logits:}\quad \frac{T^2}{rM}\sum_{i,t} \mathrm{KL}\big(\sigma(z^t_i/T)\,\Vert\,\sigma(z_i/T)\big)\]

    \[\text{features:}\quad \frac{1}{rM}\sum_{i,t} \tfrac1{d_t}\lVert W_t h_i + b_t - h^t_i\rVert^2\]

    \[\text{attention:}\quad \frac{1}{rM}\sum_{i,t} \operatorname{mean}_{q}
      \mathrm{KL}\big(a^t_{iq}\,\Vert\,a_{iq}\big)\]

    The gradient of the first is that of one teacher whose probabilities are the mean of all. \(W_t, b_t\) are learned
    with the model and thrown away with the run; where the widths are equal they start as the identity. So a student
    may have any width. Attention is that of the last layer; q runs over the tokens that are no padding and over heads,
    which are averaged first where their numbers differ. Teachers must have the run's labels, matched by name, for the
    logits; for features and attention their labels do not matter.

    With weight w the loss is task + w·this, not (1 - α)·task + α·this.

    Args:
        feature_dim, teachers: of the run.
        of: `"logits"`, `"features"` or `"attention"`.
        temperature: T, of the logits.
        rows: `"all"`, `"source"` or `"target"`; attention takes all.

    Shapes: (r, K), [(r, K)], or (r, d), [(r, d')], or a list of `LayerPair` -> ().

    Paper: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015; features: Romero et al.,
    FitNets, ICLR 2015; attention: Wang et al., MiniLM, NeurIPS 2020 (without its value relation).
    """

    paper = "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015"
    search: ClassVar = {"weight": Range(0.1, 10.0, log=True), "temperature": (1.0, 2.0, 4.0)}

    def __init__(
        self,
        feature_dim: int,
        teachers: Sequence[TeacherFacts] = (),
        of: Literal["logits", "features", "attention"] = "logits",
        temperature: float = 2.0,
        rows: Rows = "all",
    ):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        _check(of, rows)
        self.of, self.temperature = of, temperature
        if of == "logits":
            for teacher in teachers:
                if not teacher.same_labels:
                    raise ValueError(
                        f"the labels of {teacher.name} ({', '.join(teacher.labels)}) are not the run's. Distil its "
                        "features (of='features'), or use 'lwf' or 'co_tuning', which keep a head of its own."
                    )
        widths = [teacher.feature_dim for teacher in teachers] or [feature_dim]
        self.projections = nn.ModuleList(_projection(feature_dim, w) for w in widths if of == "features")

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        return tuple(name for names in ARGUMENTS.values() for name in names)

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        of = setting(cls, settings, "of")
        _check(of, setting(cls, settings, "rows"))
        return {n: n for n in ARGUMENTS[of]} if of == "attention" else of_rows(cls, settings, ARGUMENTS[of])

    def forward(self, **given: Any) -> torch.Tensor:
        if self.of == "attention":
            pairs: list[LayerPair] = given["attention_pairs"]
            return torch.stack([attention_divergence(pair) for pair in pairs]).mean()
        teachers = given[f"teacher_{self.of}"]
        if self.of == "logits":
            values = [softened_divergence(z, given["logits"], self.temperature) for z in teachers]
            return self.temperature**2 * torch.stack(values).mean()
        found = zip(self.projections, teachers, strict=True)
        return torch.stack([(project(given["features"]) - h).square().mean() for project, h in found]).mean()


def attention_divergence(pair: LayerPair) -> torch.Tensor:
    """(): KL(teacher ‖ model) over keys, averaged over heads, real queries and rows."""
    q, p = pair.current, pair.teacher
    if q.shape[2] != p.shape[2]:
        q, p = q.mean(2, keepdim=True), p.mean(2, keepdim=True)
    tiny = torch.finfo(q.dtype).tiny
    per_query = (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(-1).mean(2)
    return (per_query * pair.share).sum(1).mean()


def _check(of: Any, rows: Any) -> None:
    if of not in ARGUMENTS:
        raise ValueError(f"of={of!r} must be one of {', '.join(ARGUMENTS)}.")
    check_rows(rows)
    if of == "attention" and rows != "all":
        raise ValueError(f"rows={rows!r}: attention is distilled on all rows; leave rows at 'all'.")


def _projection(width: int, wanted: int) -> nn.Linear:
    layer = nn.Linear(width, wanted)
    if width == wanted:
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer
