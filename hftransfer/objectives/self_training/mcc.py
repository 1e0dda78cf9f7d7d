"""Minimum class confusion (MCC)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Objective, Range, is_positive
from ..probabilities import entropy


class MCC(Objective):
    r"""Minimum class confusion: classes should not be confused with each other in target predictions.

    With \(Y = \mathrm{softmax}(Z_t/T)\) and rows weighed by their certainty,

    \[C = Y^\top W Y,\quad W_{ii} = \frac{m\,(1 + e^{-H(Y_i)})}{\sum_j (1 + e^{-H(Y_j)})},\qquad
      \frac1K\sum_{k\ne l} \tilde C_{kl},\]

    \(\tilde C\) being C with each row divided by its sum. W has no gradient. Rows of \(\tilde C\) sum to 1, so the
    loss is \(1 - \mathrm{tr}\,\tilde C/K\); it is computed that way, in the logarithm, so that a class that no row
    predicts divides nothing by 0.

    Between 0 (certain rows, every class present) and 1 - 1/K: the value for rows that know nothing, and just as well
    for rows that are all certain of one class, so that collapse is not rewarded. A batch with fewer rows than classes
    cannot reach 0.

    Args:
        temperature: T, above 1 against overconfidence.

    Shapes: (m, K) -> ().

    Paper: Jin et al., Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020.
    """

    paper = "Jin et al., Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {"weight": Range(0.01, 1.0, log=True), "temperature": Range(1.0, 4.0)}

    def __init__(self, temperature: float = 2.5):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        self.temperature = temperature

    def forward(self, target_logits: torch.Tensor) -> torch.Tensor:
        log_y = (target_logits / self.temperature).log_softmax(-1)
        certainty = torch.log1p(entropy(log_y.detach()).neg().exp())  # log W, but for a factor that cancels below
        share = (log_y + certainty.unsqueeze(1)).softmax(0)  # W_i Y_ik / sum_j W_j Y_jk: column k, over rows
        return 1 - (share * log_y.exp()).sum() / log_y.shape[1]
