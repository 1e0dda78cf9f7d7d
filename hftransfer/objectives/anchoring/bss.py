"""Batch spectral shrinkage (BSS)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, check_count
from ..singular_values import smallest_squares


class BSS(Objective):
    r"""Batch spectral shrinkage.

    The smallest singular values of the batch's features are held down.

    \[\sum_{i\le k} \sigma_{-i}(F)^2\]

    with \(\sigma_{-1} \le \sigma_{-2} \le \dots\) the singular values of the features F of the batch, rows below each
    other. What the source knew and the new task does not need shows in the directions with small singular values; with
    few labels they carry noise into the head (negative transfer), and shrinking them forgets it.

    F has as many singular values as the smaller of its sides; with fewer rows than columns, those are what counts.
    Values are sums over rows, as published; hence a default weight of 1e-3, the paper's.

    Args:
        k: how many singular values.

    Shapes: (r, d) -> ().

    Paper: Chen et al., Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer
    Learning, NeurIPS 2019.
    """

    paper = "Chen et al., Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage, NeurIPS 2019"
    default_weight = 0.001  # squares of features are large: the paper's weight
    default_schedule = "constant"
    search: ClassVar = {"weight": Range(0.0001, 0.01, log=True), "k": (1, 2, 4)}

    def __init__(self, k: int = 1):
        super().__init__()
        check_count("k", k)
        self.k = k

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return smallest_squares(features, self.k)
