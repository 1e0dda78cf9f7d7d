"""Batch spectral penalisation (BSP)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, check_count
from ..moments import all_equal, row_weights
from ..singular_values import largest_squares


class BSP(Objective):
    r"""Batch spectral penalisation.

    The largest singular values of each domain's features are held down.

    \[\sum_{i\le k} \sigma_i(F_s)^2 + \sigma_i(F_t)^2,\qquad F_s = \mathrm{diag}(\sqrt w)\,S,\; F_t = T\]

    Adversarial alignment concentrates on the few directions that move most easily, and features lose the others,
    which tell classes apart; the penalty keeps the first ones from taking over. **It is meant beside `dann` or
    `cdan`**: alone it only shrinks features.

    Values are sums over rows, not means, as published: they grow with the batch. Hence a default weight of 1e-4, the
    paper's, where that of other objectives is 0.1. A source row of weight 2 counts as that row twice.

    Args:
        k: how many singular values of each domain.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Chen et al., Transferability vs. Discriminability: Batch Spectral Penalization for Adversarial Domain
    Adaptation, ICML 2019.
    """

    paper = "Chen et al., Transferability vs. Discriminability: Batch Spectral Penalization, ICML 2019"
    default_weight = 0.0001  # squares of features are large: the paper's weight
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(1e-5, 0.001, log=True), "k": (1, 2, 4)}

    def __init__(self, k: int = 1):
        super().__init__()
        check_count("k", k)
        self.k = k

    def forward(
        self, source_features: torch.Tensor, target_features: torch.Tensor, source_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        x, w = source_features, row_weights(source_features, source_weights).detach()
        weighted = x if all_equal(w) else x * w.sqrt().unsqueeze(1)
        return largest_squares(weighted, self.k) + largest_squares(target_features, self.k)
