"""Domain-adversarial training of neural networks (DANN)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from ...settings import read_choice
from ..adversarial import SEARCH, Discriminator, DomainGame, domain_accuracy, normalized_weights, reverse_gradient
from ..moments import class_membership, row_weights, shares

Sources = Literal["joint", "each"]


class DANN(DomainGame):
    r"""Domain-adversarial training of neural networks.

    A discriminator tries to tell the domains apart; the encoder gets its gradient reversed.

    \[\min_D\;\tfrac12\left(\mathrm{BCE}(D(s), 1) + \mathrm{BCE}(D(t), 0)\right),\qquad
      \text{encoder: } -\lambda(p)\,\nabla\]

    λ(p) is the weight times the schedule, so the discriminator learns at full speed from the first step. The
    loss of a discriminator that cannot tell is log 2 = 0.693. The mean over the source is weighted by
    `source_weights`.

    With `sources="each"` the discriminator names the domain among S sources and the target, \(\mathcal D_0 \dots
    \mathcal D_S\), so that sources are drawn to each other as well:

    \[\min_D\;\frac{1}{S+1}\sum_{d=0}^{S}\;\operatorname*{mean}_{x\in \mathcal D_d}\mathrm{CE}(D(x), d)\]

    Each domain is averaged by itself, so that all count the same whatever their rows; a source without a row in the
    batch is left out of the outer mean. Blind: log(S + 1). With one source it is the form above.

    Args:
        feature_dim: width of the features.
        num_sources: S.
        hidden, depth: of the discriminator.
        sources: `"joint"` takes all sources for one domain; `"each"` tells them apart.

    Shapes: (n, d), (m, d), (n,), (n,) -> ().

    Paper: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016.
    """

    paper = "Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH

    def __init__(
        self,
        feature_dim: int,
        num_sources: int = 1,
        hidden: int = 256,
        depth: int = 2,
        sources: Sources = "joint",
    ):
        super().__init__()
        read_choice("sources", sources, Sources)
        self.sources, self.num_sources = sources, num_sources
        self.discriminator = Discriminator(feature_dim, hidden, depth, num_sources + 1 if sources == "each" else 1)

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        source_domains: torch.Tensor | None = None,
        strength: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        n, m = len(source_features), len(target_features)
        logits = self.discriminator(reverse_gradient(torch.cat([source_features, target_features]), strength))
        if self.sources == "joint":
            source, target = logits.split([n, m])
            return self.domain_loss(source, target, normalized_weights(source_weights))
        if source_domains is None:
            raise ValueError(f"dann with sources={self.sources!r} needs source_domains: which source each row is of.")
        from_source = logits.detach()[:, :-1].logsumexp(1) - logits.detach()[:, -1]  # log-odds of any source
        source, target = from_source.split([n, m])
        self.domain_accuracy = domain_accuracy(source, target, normalized_weights(source_weights))
        domains = torch.cat([source_domains, source_domains.new_full((m,), self.num_sources)])
        weights = torch.cat([source_weights, source_weights.new_ones(m)])
        share = shares(
            class_membership(domains, self.num_sources + 1) * weights.unsqueeze(1)
        )  # a domain's rows share 1
        error = F.cross_entropy(logits, domains, reduction="none")
        return (share.sum(1) * error).sum() / (share.sum(0) > 0).sum()
