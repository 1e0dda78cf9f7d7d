"""Correlation alignment (CORAL) of the domains' covariances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from ..base import Objective, Range, is_positive
from ..moments import covariance_distance, covariance_factor, mean, row_weights
from ..published_statistics import PublishedStatistics, load_statistics, needed, source_side


class CORAL(Objective):
    r"""Correlation alignment: squared distance of the feature covariances of source and target.

    \[\frac{1}{4d^2}\lVert C_S - C_T\rVert_F^2 \;+\; \frac{\beta}{d}\lVert\mu_S - \mu_T\rVert^2\]

    C has the divisor n - 1. The second term is not the paper's and is off by default: covariances alone do not see
    where the clouds lie. The value is an average over the d² entries, of squares of squares: on features of ordinary
    size it is small, and the weight has to make up for it.

    Source weights w give a weighted mean, and a weighted covariance with the divisor Σw - Σw²/Σw.

    With `statistics`, published moments stand for the source: \(C_S\) and \(\mu_S\) are the site's, target rows are
    clipped as its rows were, and no source row is read.

    Args:
        mean_weight: β.
        statistics: folder that `publish_statistics` wrote, in the place of source rows.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV Workshops 2016.
    """

    paper = "Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV Workshops 2016"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.1, 100.0, log=True), "mean_weight": (0.0, 0.01, 0.1, 1.0)}

    source_mean: torch.Tensor
    source_covariance: torch.Tensor

    def __init__(self, mean_weight: float = 0.0, statistics: str | None = None):
        super().__init__()
        if mean_weight != 0 and not is_positive(mean_weight):
            raise ValueError(f"mean_weight={mean_weight!r} must be a number of at least 0.")
        self.mean_weight = float(mean_weight)
        self.published: PublishedStatistics | None = None
        if statistics is not None:
            self.published = load_statistics(statistics)
            self.published.need("moments", "coral")
            self.register_buffer("source_mean", self.published.tensors["mean"].clone())
            self.register_buffer("source_covariance", self.published.tensors["covariance"].clone())

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return source_side(settings, cls.needs())

    def forward(
        self,
        source_features: torch.Tensor | None = None,
        target_features: torch.Tensor | None = None,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        target_features = needed("target_features", target_features)
        if self.published is not None:
            self.published.check_width(target_features.shape[1])
            return self._distance_to_published(self.published.clip(target_features))
        source_features = needed("source_features", source_features)
        source_weights = row_weights(source_features, source_weights)
        x, y = source_features, target_features
        value = 0.25 / x.shape[1] ** 2 * covariance_distance(x, y, source_weights)
        if self.mean_weight:
            value = value + self.mean_weight * (mean(x, source_weights) - mean(y)).square().mean()
        return value

    def _distance_to_published(self, y: torch.Tensor) -> torch.Tensor:
        factor = covariance_factor(y)
        value = 0.25 / y.shape[1] ** 2 * (self.source_covariance - factor.T @ factor).square().sum()
        if self.mean_weight:
            value = value + self.mean_weight * (self.source_mean - mean(y)).square().mean()
        return value
