"""Importance-weighted adversarial nets (IWAN), for a target that lacks classes of the source."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..adversarial import SEARCH, Discriminator, DomainGame, domain_loss, normalized_weights, reverse_gradient
from ..moments import row_weights


class IWAN(DomainGame):
    r"""Importance-weighted adversarial nets.

    DANN in which source rows that look like no target row count little.

    A first domain classifier D, on detached features, finds them; a second one, D₀, plays against the encoder:

    \[\min_{D, D_0}\;\tfrac12\left(\overline{\mathrm{BCE}(D(s), 1)} + \overline{\mathrm{BCE}(D(t), 0)}\right)
      + \tfrac12\left(\frac{\sum_i \omega_i\,\mathrm{BCE}(D_0(s_i), 1)}{\sum_i \omega_i}
      + \overline{\mathrm{BCE}(D_0(t), 0)}\right),\qquad \omega_i = w_i\,(1 - D(s_i))\]

    The encoder gets \(-\lambda(p)\) times the gradient of the second half only, and no gradient flows through ω. The
    source mean of the first half is weighted by w, too (`source_weights`; all 1 is the paper). Two classifiers that
    cannot tell score 2 log 2.

    The paper fixes the source encoder, so that D has settled features to judge; here the encoder is one and moves, as
    in other implementations: once the domains look alike, the weights even out. Its third term, the entropy of target
    predictions, is an objective of its own.

    Args:
        feature_dim: width of the features.
        hidden, depth: of both domain classifiers.

    Shapes: (n, d), (m, d), (n,) -> ().

    Paper: Zhang et al., Importance Weighted Adversarial Nets for Partial Domain Adaptation, CVPR 2018.
    """

    paper = "Zhang et al., Importance Weighted Adversarial Nets for Partial Domain Adaptation, CVPR 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH

    def __init__(self, feature_dim: int, hidden: int = 256, depth: int = 2):
        super().__init__()
        self.weigher = Discriminator(feature_dim, hidden, depth)
        self.discriminator = Discriminator(feature_dim, hidden, depth)

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        features, rows = torch.cat([source_features, target_features]), [len(source_features), len(target_features)]
        source, target = self.weigher(features.detach()).split(rows)
        weigher_loss = domain_loss(source, target, normalized_weights(source_weights))
        like_target = F.logsigmoid(-source.detach())
        like_target = (like_target - like_target.amax()).exp()  # up to a factor that cancels: never 0 throughout
        source, target = self.discriminator(reverse_gradient(features, strength)).split(rows)
        return weigher_loss + self.domain_loss(source, target, normalized_weights(source_weights * like_target))
