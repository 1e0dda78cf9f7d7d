"""Margin disparity discrepancy (MDD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..adversarial import SEARCH, Discriminator, reverse_gradient, weighted_mean
from ..base import Objective, Range, check_count, is_positive
from ..moments import row_weights


class MDD(Objective):
    r"""Margin disparity discrepancy.

    A second head f' agrees with the model's predictions on the source and disagrees on the target, as far as it can;
    the encoder gets its gradient reversed, so that there is nothing left to disagree about.

    With \(h(x) = \arg\max_k z_k(x)\) of the model's own head, detached, and σ the softmax of f',

    \[\min_{f'}\;\gamma\,\frac{\sum_i w_i\,(-\log \sigma_{h(s_i)}(s_i))}{\sum_i w_i}
      - \frac1m\sum_j \log\big(1 - \sigma_{h(t_j)}(t_j)\big),\qquad \text{encoder: } -\lambda(p)\,\nabla\]

    γ = e^margin in the paper's theory; w are `source_weights`. log(1 - σ) is computed from the other classes' logits
    (softplus of z_h minus their log-sum-exp), without a shift: its gradient is at most 1 wherever σ is. A head that
    cannot tell the domains apart answers σ = γ/(1 + γ) and scores γ log(1 + 1/γ) + log(1 + γ), 2.502 for γ = 4.

    Args:
        feature_dim, num_classes: widths; at least two classes.
        margin: γ.
        hidden, depth: of the second head.

    Shapes: (n, d), (m, d), (n, K), (m, K), (n,) -> ().

    Paper: Zhang et al., Bridging Theory and Algorithm for Domain Adaptation, ICML 2019.
    """

    paper = "Zhang et al., Bridging Theory and Algorithm for Domain Adaptation, ICML 2019"
    default_weight = 0.03  # 0.1 kept a pretrained encoder from learning its source
    default_schedule = "warm_start"
    search = SEARCH | {"weight": Range(0.003, 0.3, log=True), "margin": Range(1.0, 8.0)}

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        margin: float = 4.0,
        hidden: int = 256,
        depth: int = 1,
    ):
        super().__init__()
        check_count("num_classes", num_classes, least=2)
        if not is_positive(margin):
            raise ValueError(f"margin={margin!r} must be a positive number.")
        self.margin = margin
        self.head = Discriminator(feature_dim, hidden, depth, num_classes)

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_logits: torch.Tensor,
        target_logits: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        features = torch.cat([source_features, target_features])
        source, target = self.head(reverse_gradient(features, strength)).split(
            [len(source_features), len(target_features)]
        )
        agree = F.cross_entropy(source, source_logits.argmax(-1), reduction="none")
        predicted = target_logits.argmax(-1, keepdim=True)
        other_classes = target.scatter(1, predicted, -torch.inf).logsumexp(1, keepdim=True)
        disagree = F.softplus(target.gather(1, predicted) - other_classes)
        return self.margin * weighted_mean(agree, source_weights) + disagree.mean()
