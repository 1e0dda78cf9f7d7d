"""Conditional adversarial domain adaptation (CDAN)."""

from __future__ import annotations

import math

import torch

from ..adversarial import SEARCH, Discriminator, DomainGame, normalized_weights, reverse_gradient
from ..base import check_count
from ..moments import row_weights

MAX_PRODUCT = 4096  # above this many entries the outer product is replaced by random projections (the paper's rule)


class CDAN(DomainGame):
    r"""Conditional adversarial domain adaptation.

    DANN whose discriminator sees features and predictions together: \(h = f \otimes g\), g = softmax(logits).

    Predictions are detached: the reversed gradient flows through the features only. When d·K exceeds 4,096 the
    product becomes \(h = (R_f f) \odot (R_g g) / \sqrt{D}\) with fixed Gaussian matrices, kept in buffers.

    With `entropy=True` (CDAN-E) a row counts \(1 + e^{-H(g)}\), so that uncertain predictions weigh less. A source row
    counts `source_weights` times that, and the products are normalised within each domain, so that both domains count
    the same.

    Args:
        feature_dim, num_classes: widths.
        entropy: weigh rows by certainty.
        randomized: `None` decides by size; a bool forces it.
        random_dim: D.
        hidden, depth: of the discriminator.

    Shapes: (n, d), (m, d), (n, K), (m, K), (n,) -> ().

    Paper: Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018.
    """

    feature_map: torch.Tensor
    class_map: torch.Tensor
    paper = "Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018"
    default_weight = 0.1
    default_schedule = "warm_start"
    search = SEARCH

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        entropy: bool = False,
        randomized: bool | None = None,
        random_dim: int = 1024,
        hidden: int = 256,
        depth: int = 2,
    ):
        super().__init__()
        check_count("random_dim", random_dim)
        self.entropy = entropy
        self.randomized = feature_dim * num_classes > MAX_PRODUCT if randomized is None else randomized
        if self.randomized:
            self.register_buffer("feature_map", torch.randn(feature_dim, random_dim))
            self.register_buffer("class_map", torch.randn(num_classes, random_dim))
        width = random_dim if self.randomized else feature_dim * num_classes
        self.discriminator = Discriminator(width, hidden, depth)

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
        n, m = len(source_features), len(target_features)
        g = torch.cat([source_logits, target_logits]).detach().softmax(-1)
        f = reverse_gradient(torch.cat([source_features, target_features]), strength)
        source, target = self.discriminator(self._joint(f, g)).split([n, m])
        if not self.entropy:
            return self.domain_loss(source, target, normalized_weights(source_weights))
        certainty = 1 + torch.exp(torch.special.entr(g).sum(-1).neg())
        s, t = certainty.split([n, m])
        return self.domain_loss(source, target, normalized_weights(source_weights * s), normalized_weights(t))

    def _joint(self, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        if self.randomized:
            return (f @ self.feature_map) * (g @ self.class_map) / math.sqrt(self.feature_map.shape[1])
        return (f.unsqueeze(2) * g.unsqueeze(1)).flatten(1)


class CDANE(CDAN):
    """Conditional adversarial domain adaptation with entropy conditioning: `CDAN(entropy=True)` under its own name."""

    def __init__(self, feature_dim: int, num_classes: int, **settings):
        super().__init__(feature_dim, num_classes, **{"entropy": True, **settings})

    @classmethod
    def settings(cls):
        return CDAN.settings()
