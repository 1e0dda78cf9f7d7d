"""Wasserstein distance guided representation learning (WDGRL)."""

from __future__ import annotations

import torch

from ..adversarial import SEARCH, Discriminator, reverse_gradient, weighted_mean
from ..base import Objective, Range, is_positive
from ..moments import row_weights

GOLDEN = 2654435769  # 2³² divided by the golden ratio: its multiples modulo 2³² fill the range evenly


class WDGRL(Objective):
    r"""Wasserstein distance guided representation learning.

    A critic f with slopes near 1 whose mean differs between the domains by the Wasserstein distance, at best; the
    encoder makes it smaller.

    \[\min_f\;\gamma\,\operatorname*{mean}_{x\in X}\big(\lVert\nabla_x f(x)\rVert - 1\big)^2 - W,\qquad
      W = \frac{\sum_i w_i f(s_i)}{\sum_i w_i} - \frac1m\sum_j f(t_j),\qquad \text{encoder: } \lambda(p)\,\nabla W\]

    X holds all source and target rows and a point between each source and target row, as in the paper's own code; of
    unequal batches the shorter one is gone through again. The penalty is on detached rows, so that the encoder sees W
    alone, and unweighted (it is about the critic, not the domains); w are `source_weights`. The value is the critic's
    loss: -W where the penalty is met, 0 at best where the domains are equal.

    The paper trains the critic for n steps (5 in its code) with the encoder fixed, then the encoder for one. Here both
    move in one step, through gradient reversal: the critic is less sharp, and its learning rate matters more.

    The points between are \(\alpha s + (1-\alpha)t\) with α from multiples of the golden ratio modulo 1, which cover
    [0, 1] more evenly than random numbers. How many were drawn is a buffer: each process draws the same ones, and a
    resumed run goes on where it was.

    Args:
        feature_dim: width of the features.
        penalty: γ.
        hidden, depth: of the critic.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Shen et al., Wasserstein Distance Guided Representation Learning for Domain Adaptation, AAAI 2018.
    """

    drawn: torch.Tensor
    paper = "Shen et al., Wasserstein Distance Guided Representation Learning for Domain Adaptation, AAAI 2018"
    default_weight = 0.03  # 0.1 cost a pretrained encoder five points on its source
    default_schedule = "warm_start"
    search = SEARCH | {"weight": Range(0.003, 0.3, log=True), "penalty": Range(1.0, 100.0, log=True)}

    def __init__(self, feature_dim: int, penalty: float = 10.0, hidden: int = 256, depth: int = 2):
        super().__init__()
        if not is_positive(penalty):
            raise ValueError(f"penalty={penalty!r} must be a positive number.")
        self.penalty = penalty
        self.critic = Discriminator(feature_dim, hidden, depth)
        self.register_buffer("drawn", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        features = torch.cat([source_features, target_features])
        source, target = self.critic(reverse_gradient(features, strength)).split(
            [len(source_features), len(target_features)]
        )
        distance = weighted_mean(source, source_weights) - target.mean()
        between = self._between(source_features.detach(), target_features.detach())
        slopes = torch.linalg.vector_norm(self.critic.input_gradient(torch.cat([features.detach(), between])), dim=1)
        return self.penalty * (slopes - 1).square().mean() - distance

    def _between(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Points between source and target rows, (n, d) and (m, d) -> (max(n, m), d)."""
        rows = torch.arange(max(len(source), len(target)), device=source.device)
        alpha = ((self.drawn + rows) * GOLDEN % 2**32).to(source.dtype).unsqueeze(1) / 2**32
        self.drawn += len(rows)
        s, t = source[rows % len(source)], target[rows % len(target)]
        return t + alpha * (s - t)
