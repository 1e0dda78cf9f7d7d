"""Mean teacher: target predictions stay near those of the mean of the model's own past weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch

from ...settings import read_choice
from ..base import Objective, Range
from ..probabilities import divergence
from ..second_view import SecondView, View

Distance = Literal["squared", "divergence"]
Keep = Literal["student", "teacher"]


class MeanTeacher(Objective):
    r"""Mean teacher: predictions on target rows are drawn to those of a teacher whose weights are the moving average
    of the model's own.

    \[\frac1m\sum_i \lVert p(x_i) - p'(x_i) \rVert^2,\qquad
      \theta'_t = \alpha_t\,\theta'_{t-1} + (1-\alpha_t)\,\theta_t,\qquad
      \alpha_t = \min\Big(1 - \frac1t, \alpha\Big)\]

    after each update t, with p of the model while it trains, under dropout, and p' of the teacher, without dropout and
    without gradient. Or the divergence \(\mathrm{KL}(p'\Vert p)\). The average changes slowly and is a better model
    than most of the ones that it averages, so that its predictions are worth following.

    The trainer keeps the average (`WeightAverage`): one more copy of the weights that train, in single precision, in
    checkpoints and in no saved model, and one more forward over the target rows, without gradient. In it, batch norms
    use the statistics of these rows; running ones are the model's own.

    Args:
        decay: α. With 0.99 the last hundred updates count; short runs forget nothing with 0.999.
        distance: `"squared"`, as in the paper, or `"divergence"`.
        keep: what is evaluated, and saved at the end: the `"student"`, or the `"teacher"`.
        view: `"same"`, the model's predictions on the rows of the joint batch; `"strong"`, on strong second views.
        cutoff, function: of a strong view; see `SecondView`.

    Shapes: (m, K), (m, K) -> ().

    Paper: Tarvainen and Valpola, Mean Teachers Are Better Role Models, NeurIPS 2017; across domains: French,
    Mackiewicz and Fisher, Self-Ensembling for Visual Domain Adaptation, ICLR 2018.

    Example:
        >>> MeanTeacher()(torch.zeros(4, 2), torch.tensor([[50.0, 0.0]]).expand(4, 2))
        tensor(0.5000)
    """

    paper = "Tarvainen and Valpola, Mean Teachers Are Better Role Models, NeurIPS 2017"
    default_weight = 0.1
    default_schedule = "warm_start"
    imports = ("function",)
    search: ClassVar = {
        "weight": Range(0.01, 3.0, log=True),
        "decay": (0.9, 0.99, 0.999),
        "distance": ("squared", "divergence"),
    }

    def __init__(
        self,
        decay: float = 0.99,
        distance: Distance = "squared",
        keep: Keep = "student",
        view: View = "same",
        cutoff: float | None = None,
        function: Any = None,
    ):
        super().__init__()
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(f"decay={decay!r} must be at least 0 and below 1.")
        read_choice("distance", distance, Distance)
        read_choice("keep", keep, Keep)
        SecondView(view, cutoff, function)
        self.distance = distance

    @classmethod
    def second_view(cls, settings: Mapping[str, Any]) -> SecondView:
        return SecondView.from_settings({"view": "same", **settings})

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        student = "target_logits" if cls.second_view(settings) == SecondView("same") else "target_view_logits"
        return {"target_logits": student, "averaged_target_logits": "averaged_target_logits"}

    def forward(self, target_logits: torch.Tensor, averaged_target_logits: torch.Tensor) -> torch.Tensor:
        log_p, log_q = target_logits.log_softmax(-1), averaged_target_logits.detach().log_softmax(-1)
        if self.distance == "divergence":
            return divergence(log_q, log_p).mean()
        return (log_p.exp() - log_q.exp()).square().sum(-1).mean()
