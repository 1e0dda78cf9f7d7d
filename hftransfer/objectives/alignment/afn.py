"""Stepwise adaptive feature norm (AFN)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, is_positive
from ..moments import mean, row_weights


class AFN(Objective):
    r"""Adaptive feature norm, stepwise.

    Features of both domains grow longer, a step at a time.

    \[\tfrac12\left(\frac{\sum_i w_i\,\ell(s_i)}{\sum_i w_i} + \frac1m\sum_j \ell(t_j)\right),\qquad
      \ell(f) = \big(\lVert f\rVert - \mathrm{sg}(\lVert f\rVert) - \Delta\big)^2\]

    sg stops the gradient, so **the value is Δ² at every step**: only the gradient acts, and it draws each row outwards
    with the same strength whatever its length. Nothing ends it but the weight decay and the schedule. For batches of
    equal size this is the paper's mean over both domains.

    Args:
        delta: Δ, the step.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Xu et al., Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain
    Adaptation, ICCV 2019.
    """

    paper = "Xu et al., Larger Norm More Transferable: An Adaptive Feature Norm Approach, ICCV 2019"
    default_weight = 0.01  # at 0.1 a pretrained encoder lost its source
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.001, 0.1, log=True), "delta": Range(0.1, 2.0)}

    def __init__(self, delta: float = 1.0):
        super().__init__()
        if not is_positive(delta):
            raise ValueError(f"delta={delta!r} must be a positive number.")
        self.delta = delta

    def forward(
        self, source_features: torch.Tensor, target_features: torch.Tensor, source_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        return (mean(self._step(source_features), source_weights) + mean(self._step(target_features))) / 2

    def _step(self, features: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(features, dim=1)
        return (length - length.detach() - self.delta).square()
