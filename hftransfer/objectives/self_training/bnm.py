"""Batch nuclear-norm maximisation (BNM)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range
from ..singular_values import nuclear_norm


class BNM(Objective):
    r"""Batch nuclear-norm maximisation.

    The matrix of target predictions gets the largest nuclear norm: rows certain, and different from each other.

    \[-\frac1m \lVert \mathrm{softmax}(Z_t) \rVert_*\]

    the sum of singular values. At best -√(K/m), for certain rows spread evenly over K ≤ m classes; -1/√m for rows that
    are all certain of one class and -1/√(mK) for rows that know nothing: collapse is better than ignorance and worse
    than anything that tells rows apart. The value shrinks with the batch as 1/√m, so a weight belongs to a batch size.

    Where predictions are exactly alike, directions in which they could part have no gradient: the task must tell rows
    apart first.

    Shapes: (m, K) -> ().

    Paper: Cui et al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
    Situations, CVPR 2020.
    """

    paper = "Cui et al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization, CVPR 2020"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.01, 1.0, log=True)}

    def __init__(self) -> None:
        super().__init__()

    def forward(self, target_logits: torch.Tensor) -> torch.Tensor:
        return nuclear_norm(target_logits.softmax(-1), -1 / len(target_logits))
