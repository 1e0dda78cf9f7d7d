"""Joint maximum mean discrepancy (JAN) of features and predictions."""

from __future__ import annotations

from typing import Literal

import torch

from ..base import Objective, Range, check_count
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
from ..moments import row_weights


class JAN(Objective):
    r"""Joint maximum mean discrepancy: MMD² whose kernel asks that rows agree in their features and in their
    predictions.

    \[k\big((f, g), (f', g')\big) = k_f(f, f')\;k_g(g, g'),\qquad
      k_g(g, g') = \exp\left(-\frac{\lVert g-g'\rVert^2}{b_g}\right),\qquad g = \mathrm{softmax}(\text{logits})\]

    in the estimates of `mmd`; k_f is its mean of Gaussian kernels, with the bandwidth from the batch. So it compares
    the joint distributions of features and predictions, not the features alone. The gradient flows through both.

    Source weights w multiply the terms of their rows, and sums of weights replace the counts, as in `mmd`.

    Args:
        estimator: `"unbiased"` or `"biased"`; see `mmd` for why.
        bandwidth: of k_f: `"mean"`, `"median"` or a fixed squared width.
        kernels: of k_f.
        prediction_bandwidth: b_g, the same choices; 1.68 is that of the authors' code (squared distances of
            predictions lie between 0 and 2).

    Shapes: (n, d), (m, d), (n, K), (m, K) and (n,) -> (). n and m may differ.

    Paper: Long et al., Deep Transfer Learning with Joint Adaptation Networks, ICML 2017.
    """

    paper = "Long et al., Deep Transfer Learning with Joint Adaptation Networks, ICML 2017"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH | {"prediction_bandwidth": Range(0.2, 4.0, log=True)}

    def __init__(
        self,
        estimator: Literal["unbiased", "biased"] = "unbiased",
        bandwidth: Bandwidth = "mean",
        kernels: int = 5,
        prediction_bandwidth: Bandwidth = 1.68,
    ):
        super().__init__()
        check_estimator(estimator)
        check_bandwidth(bandwidth)
        check_bandwidth(prediction_bandwidth, "prediction_bandwidth")
        check_count("kernels", kernels)
        self.estimator, self.bandwidth, self.kernels = estimator, bandwidth, kernels
        self.prediction_bandwidth = prediction_bandwidth

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_logits: torch.Tensor,
        target_logits: torch.Tensor,
        source_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        f = centred_domains(source_features, target_features, source_weights)
        g = centred_domains(source_logits.softmax(-1), target_logits.softmax(-1), source_weights)
        of_features = gram_matrices(f, kernel_widths(f, self.bandwidth, self.kernels))
        of_predictions = gram_matrices(g, kernel_widths(g, self.prediction_bandwidth, 1))
        ss, tt, st = (a * b for a, b in zip(of_features, of_predictions, strict=True))
        s, t = source_weights.unsqueeze(1), target_features.new_ones(len(target_features), 1)
        return weighted_mmd(ss, tt, st, s, t, self.estimator == "biased")[0]
