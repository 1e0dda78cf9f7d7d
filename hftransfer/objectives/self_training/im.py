"""Information maximisation (IM)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, is_positive
from ..probabilities import entropy, log_mean


class InformationMaximization(Objective):
    r"""Information maximisation: each target row is predicted with certainty, and all rows together use all classes.

    \[\frac1m\sum_i H(p_i) - \beta\, H\left(\frac1m\sum_i p_i\right)\]

    With β = 1 this is minus the mutual information of rows and predictions: 0 for a model that predicts the same for
    every row, whether certain or not, and -log K at best, each row certain and each class as frequent as the next.
    The second term is taken over the rows of all processes. It pulls towards classes of equal size, whatever they are
    in the target.

    Args:
        diversity: β. Below 1, calling every row one class with certainty beats knowing nothing, and the collapse of
            `entropy` becomes possible again.

    Shapes: (m, K) -> ().

    Paper: Liang et al., Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised
    Domain Adaptation, ICML 2020 (SHOT-IM; here the source stays, and so does its task loss).
    """

    paper = "Liang et al., Do We Really Need to Access the Source Data?, ICML 2020"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.01, 1.0, log=True), "diversity": Range(0.5, 2.0)}

    def __init__(self, diversity: float = 1.0):
        super().__init__()
        if not is_positive(diversity):
            raise ValueError(f"diversity={diversity!r} must be a positive number.")
        self.diversity = diversity

    def forward(self, target_logits: torch.Tensor) -> torch.Tensor:
        log_p = target_logits.log_softmax(-1)
        return entropy(log_p).mean() - self.diversity * entropy(log_mean(log_p))
