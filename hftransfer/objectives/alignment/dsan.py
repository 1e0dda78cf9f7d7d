"""Local maximum mean discrepancy (DSAN): one for each class."""

from __future__ import annotations

from typing import Literal

import torch

from ..base import Objective, check_count
from ..kernels import (
    SEARCH,
    Bandwidth,
    centred_domains,
    check_bandwidth,
    check_estimator,
    gram_matrices,
    kernel_widths,
    weighted_mmd,
)
from ..moments import class_membership, row_weights


class DSAN(Objective):
    r"""Local maximum mean discrepancy: MMD² between source and target rows of the same class, averaged over classes.

    \[\frac{1}{|C|}\sum_{c\in C}\Big\lVert \sum_i a_{ic}\,\phi(s_i) - \sum_j b_{jc}\,\phi(t_j)\Big\rVert^2,\qquad
      a_{ic} = \frac{[y_i = c]}{\sum_k [y_k = c]},\qquad b_{jc} = \frac{p_{jc}}{\sum_k p_{kc}}\]

    with the kernel of `mmd` for the inner product of φ. A source row belongs to its label's class; a target row to
    every class, as far as the model predicts it (p = softmax of its logits, without gradient). C are the classes that
    some source row has and that some target row is predicted to be. Without one, the loss is 0.

    This is the biased form, as published: it keeps i = j. The unbiased form leaves these terms out, and with them the
    reward for drawing a class to a point, but it needs two source rows of a class: others are left out of C.

    Source weights w multiply [y_i = c] in a. A weight that all rows of a class share cancels out: how frequent a class
    is makes no difference here.

    Args:
        num_classes: K.
        estimator: `"biased"` or `"unbiased"`.
        bandwidth: `"mean"`, `"median"` or a fixed squared width.
        kernels: how many, with multipliers in powers of 2 centred on 1.

    Shapes: (n, d), (m, d), (n,), (m, K) and (n,) -> (). n and m may differ.

    Paper: Zhu et al., Deep Subdomain Adaptation Network for Image Classification, IEEE TNNLS 2020.
    """

    paper = "Zhu et al., Deep Subdomain Adaptation Network for Image Classification, IEEE TNNLS 2020"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH | {"estimator": ("biased", "unbiased")}

    def __init__(
        self,
        num_classes: int,
        estimator: Literal["biased", "unbiased"] = "biased",
        bandwidth: Bandwidth = "mean",
        kernels: int = 5,
    ):
        super().__init__()
        check_estimator(estimator, ("biased", "unbiased"))
        check_bandwidth(bandwidth)
        check_count("kernels", kernels)
        self.num_classes, self.estimator, self.bandwidth, self.kernels = num_classes, estimator, bandwidth, kernels

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        target_logits: torch.Tensor,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        biased = self.estimator == "biased"
        c = centred_domains(source_features, target_features, source_weights)
        kernels = gram_matrices(c, kernel_widths(c, self.bandwidth, self.kernels))
        member = class_membership(source_labels, self.num_classes)
        predicted = class_membership(target_logits.argmax(1), self.num_classes).sum(0)
        s, t = member * source_weights.unsqueeze(1), target_logits.detach().softmax(-1)
        shared = ((s > 0).sum(0) >= (1 if biased else 2)) & (predicted > 0)
        per_class = weighted_mmd(*kernels, s, t, biased)
        return torch.where(shared, per_class, 0).sum() / shared.sum().clamp_min(1)
