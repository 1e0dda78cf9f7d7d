"""Class-conditional domain-adversarial networks (CDANN): one discriminator a class."""

from __future__ import annotations

import torch

from ..adversarial import SEARCH, Discriminator, DomainGame, normalized_weights, reverse_gradient
from ..moments import class_membership, row_weights


class CDANN(DomainGame):
    r"""Class-conditional domain-adversarial networks.

    K discriminators, one a class, each telling source rows of its class from target rows of its class.

    \[\min_{D_1 \dots D_K}\;\tfrac12\left(\frac{\sum_i w_i\,\mathrm{BCE}(D_{y_i}(s_i), 1)}{\sum_i w_i}
      + \frac1m \sum_j\sum_k p_{jk}\,\mathrm{BCE}(D_k(t_j), 0)\right),\qquad \text{encoder: } -\lambda(p)\,\nabla\]

    A row counts in discriminator k with its class probability: 1 or 0 by its label in the source, the detached softmax
    in the target. Over all discriminators a row counts once, w are `source_weights`, and source rows without a label
    count nowhere. Discriminators that cannot tell score log 2. Where a class is commoner in one domain, its
    discriminator's best answer is that ratio, a constant, which moves no feature.

    This is Li et al.'s class-conditional game for two domains, without their second term (a domain game over all
    classes with rows weighted by class frequency); they have labels in every domain, and the soft count of unlabelled
    rows is MADA's idea. MADA itself differs: its discriminator k sees \(p_k f\) in place of f, in both domains, so
    that the probability scales the input and not the loss.

    Args:
        feature_dim, num_classes: widths.
        hidden, depth: of each discriminator.

    Shapes: (n, d), (m, d), (n,), (m, K), (n,) -> (). The K discriminators are grouped weights of one module.

    Paper: Li et al., Deep Domain Generalization via Conditional Invariant Adversarial Networks, ECCV 2018; Pei et al.,
    Multi-Adversarial Domain Adaptation, AAAI 2018.
    """

    paper = "Li et al., Deep Domain Generalization via Conditional Invariant Adversarial Networks, ECCV 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH | {"hidden": (64, 128, 256)}

    def __init__(self, feature_dim: int, num_classes: int, hidden: int = 128, depth: int = 2):
        super().__init__()
        self.discriminators = Discriminator(feature_dim, hidden, depth, groups=num_classes)

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        target_logits: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        features = torch.cat([source_features, target_features])
        logits = self.discriminators(reverse_gradient(features, strength))
        source, target = logits.split([len(source_features), len(target_features)])
        of_class = class_membership(source_labels, target_logits.shape[1]) * source_weights.unsqueeze(1)
        target_weights = normalized_weights(target_logits.softmax(-1))
        return self.domain_loss(source, target, normalized_weights(of_class), target_weights)
