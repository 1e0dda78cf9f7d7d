"""Attention distillation from one teacher or several."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import LayerPair, Objective, Range


class DistillAttention(Objective):
    r"""Attention distillation: the model attends as its teachers do.

    Over r rows and M teachers, with a the attention of the model's last layer and \(a^t\) that of teacher t's,

    \[\frac{1}{rM}\sum_{i,t} \operatorname{mean}_{q}
      \mathrm{KL}\big(a^t_{iq}\,\Vert\,a_{iq}\big)\]

    q runs over the tokens that are no padding and over heads, which are averaged first where their numbers differ. The
    teachers' labels do not matter; their tokens must be the model's.

    With weight w the loss is task + w·this, not (1 - α)·task + α·this.

    Shapes: a list of `LayerPair` -> ().

    Paper: Wang et al., MiniLM: Deep Self-Attention Distillation, NeurIPS 2020 (without its value relation).
    """

    paper = "Wang et al., MiniLM: Deep Self-Attention Distillation, NeurIPS 2020"
    search: ClassVar = {"weight": Range(0.1, 10.0, log=True)}

    def forward(self, attention_pairs: list[LayerPair]) -> torch.Tensor:
        return torch.stack([attention_divergence(pair) for pair in attention_pairs]).mean()


def attention_divergence(pair: LayerPair) -> torch.Tensor:
    """Divergence of attention, (): KL(teacher ‖ model) over keys, averaged over heads, real queries and rows."""
    q, p = pair.current, pair.teacher
    if q.shape[2] != p.shape[2]:
        q, p = q.mean(2, keepdim=True), p.mean(2, keepdim=True)
    tiny = torch.finfo(q.dtype).tiny
    per_query = (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(-1).mean(2)
    return (per_query * pair.share).sum(1).mean()
