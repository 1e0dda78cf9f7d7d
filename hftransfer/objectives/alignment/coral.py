"""Correlation alignment (CORAL) of the domains' covariances."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, is_positive
from ..moments import covariance_distance, mean, row_weights


class CORAL(Objective):
    r"""Correlation alignment: squared distance of the feature covariances of source and target.

    \[\frac{1}{4d^2}\lVert C_S - C_T\rVert_F^2 \;+\; \frac{\beta}{d}\lVert\mu_S - \mu_T\rVert^2\]

    C has the divisor n - 1. The second term is not the paper's and is off by default: covariances alone do not see
    where the clouds lie. The value is an average over the d² entries, of squares of squares: on features of ordinary
    size it is small, and the weight has to make up for it.

    Source weights w give a weighted mean, and a weighted covariance with the divisor Σw - Σw²/Σw.

    Args:
        mean_weight: β.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV Workshops 2016.
    """

    paper = "Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV Workshops 2016"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.1, 100.0, log=True), "mean_weight": (0.0, 0.01, 0.1, 1.0)}

    def __init__(self, mean_weight: float = 0.0):
        super().__init__()
        if mean_weight != 0 and not is_positive(mean_weight):
            raise ValueError(f"mean_weight={mean_weight!r} must be a number of at least 0.")
        self.mean_weight = float(mean_weight)

    def forward(
        self, source_features: torch.Tensor, target_features: torch.Tensor, source_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        x, y = source_features, target_features
        value = 0.25 / x.shape[1] ** 2 * covariance_distance(x, y, source_weights)
        if self.mean_weight:
            value = value + self.mean_weight * (mean(x, source_weights) - mean(y)).square().mean()
        return value
