"""Domain-adversarial training of neural networks."""

from __future__ import annotations

import torch

from ..adversarial import Discriminator, domain_loss, reverse_gradient
from ..base import Objective
from ..schedules import GENTLE


class DANN(Objective):
    r"""A discriminator tries to tell the domains apart; the encoder gets its gradient reversed.

    \[\min_D\;\tfrac12\left(\mathrm{BCE}(D(s), 1) + \mathrm{BCE}(D(t), 0)\right),\qquad
      \text{encoder: } -\lambda(p)\,\nabla\]

    The schedule is the reversal strength λ(p), so the discriminator learns at full speed from the first step. The
    loss of a discriminator that cannot tell is log 2 = 0.693.

    Args:
        feature_dim: width of the features.
        hidden, depth: of the discriminator.

    Shapes: (n, d) and (m, d) -> ().

    Paper: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016.
    """

    paper = "Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016"
    default_schedule = GENTLE

    def __init__(self, feature_dim: int, hidden: int = 256, depth: int = 2):
        super().__init__()
        self.discriminator = Discriminator(feature_dim, hidden, depth)

    def forward(
        self, source_features: torch.Tensor, target_features: torch.Tensor, strength: torch.Tensor
    ) -> torch.Tensor:
        both = torch.cat([source_features, target_features])
        source, target = self.discriminator(reverse_gradient(both, strength)).split(
            [len(source_features), len(target_features)]
        )
        return domain_loss(source, target)
