"""Moment matching across several sources (M3SDA)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, check_count
from ..moments import class_membership, rounding_error, row_weights, shares, smooth_distance


class M3SDA(Objective):
    r"""Moment matching across several sources.

    The first moments of every source are drawn to those of the target and of the other sources.

    \[\sum_{k=1}^{K}\left(\frac1N\sum_{i}\big\lVert\mathbb{E}[S_i^k] - \mathbb{E}[T^k]\big\rVert_2
      + \binom N2^{-1}\sum_{i<j}\big\lVert\mathbb{E}[S_i^k] - \mathbb{E}[S_j^k]\big\rVert_2\right)\]

    Powers are by coordinate; the moments are raw, not central. A source without a row in the batch contributes
    nothing: the averages are over the sources, and the pairs of sources, that are there. With one source only its
    distance to the target is left.

    Source weights count within a source: weight 2 is that row twice.

    Only the paper's moment distance: its second step, two classifiers per source and their discrepancy, is not here.

    Args:
        num_sources: N.
        moments: K.

    Shapes: (n, d), (m, d), (n,), (n,) -> ().

    Paper: Peng et al., Moment Matching for Multi-Source Domain Adaptation, ICCV 2019.
    """

    paper = "Peng et al., Moment Matching for Multi-Source Domain Adaptation, ICCV 2019"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.001, 0.1, log=True), "moments": (1, 2, 3)}

    def __init__(self, num_sources: int = 1, moments: int = 2):
        super().__init__()
        check_count("num_sources", num_sources)
        check_count("moments", moments)
        self.num_sources, self.moments = num_sources, moments

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_domains: torch.Tensor,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        x, y = source_features, target_features
        weights = class_membership(source_domains, self.num_sources) * source_weights.detach().unsqueeze(1)
        present, share = weights.sum(0) > 0, shares(weights)
        i, j = torch.triu_indices(self.num_sources, self.num_sources, 1, device=x.device)
        value = x.new_zeros(())
        powers_x, powers_y = torch.ones_like(x), torch.ones_like(y)
        for _ in range(self.moments):
            powers_x, powers_y = powers_x * x, powers_y * y
            s, t, noise = share.T @ powers_x, powers_y.mean(0), rounding_error(powers_x, powers_y)
            value = value + _mean_distance(smooth_distance(s, t, noise), present)
            value = value + _mean_distance(smooth_distance(s[i], s[j], noise), present[i] & present[j])
        return value


def _mean_distance(distances: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean distance over the sources that are present; 0 when none is."""
    return torch.where(present, distances, 0.0).sum() / present.sum().clamp_min(1)
