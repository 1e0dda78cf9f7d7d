"""Entropy minimisation."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range
from ..probabilities import entropy


class Entropy(Objective):
    r"""Entropy minimisation: predictions on target rows are made certain.

    \[\frac1m\sum_i H(p_i),\qquad H(p) = -\sum_k p_k \log p_k\]

    with p the softmax of the logits: log K where nothing is known, 0 where all is certain. A model that calls every
    row the same class, with certainty, has the least there is: **alone, this objective can collapse to it**. `im`
    adds the term that forbids it; next to any other objective keep its weight small.

    Shapes: (m, K) -> ().

    Paper: Grandvalet and Bengio, Semi-supervised Learning by Entropy Minimization, NeurIPS 2004.
    """

    paper = "Grandvalet and Bengio, Semi-supervised Learning by Entropy Minimization, NeurIPS 2004"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.001, 0.1, log=True)}

    def __init__(self) -> None:
        super().__init__()

    def forward(self, target_logits: torch.Tensor) -> torch.Tensor:
        return entropy(target_logits.log_softmax(-1)).mean()
