"""Soft labels: cross-entropy of target predictions with given distributions."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range


class SoftLabels(Objective):
    r"""Soft-label cross-entropy: target predictions are trained towards distributions computed before the run.

    \[-\frac1m \sum_i \sum_k q_{ik} \log p_{ik}\]

    with q the soft labels, for instance the mean prediction of several models, calibrated and corrected for class
    frequencies, and p the prediction. A student of such a mean is one plain model that comes close to all of them.
    The minimum is the mean entropy of q, not 0.

    The soft labels are a column of the target, made once by `add_soft_labels`; no teacher runs in a step.

    Shapes: (m, K), (m, K) -> ().

    Paper: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
    """

    paper = "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015"
    search: ClassVar = {"weight": Range(0.3, 3.0, log=True)}

    def forward(self, target_logits: torch.Tensor, target_soft_labels: torch.Tensor) -> torch.Tensor:
        return -(target_soft_labels * target_logits.log_softmax(-1)).sum(-1).mean()
