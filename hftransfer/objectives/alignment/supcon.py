"""Supervised contrast across domains with confident pseudo-labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..base import Objective, check_count, is_positive
from ..queue import FeatureQueue
from ..schedules import GENTLE


class SupCon(Objective):
    r"""Rows of one class are drawn together across domains and pushed from the other classes.

    A target row takes part once its prediction is confident (largest probability ≥ `threshold`), with that class as
    its label. For an anchor i with candidates A(i), the labelled rows of the *other* domain, and positives
    P(i) ⊂ A(i), those of its class:

    \[-\frac{1}{|P(i)|}\sum_{p\in P(i)} \log\frac{\exp(z_i\cdot z_p/\tau)}{\sum_{a\in A(i)}\exp(z_i\cdot z_a/\tau)}\]

    averaged over the anchors of each domain that have a positive, then over the two domains; z are L2-normalised
    features. Without a confident target row the loss is 0.

    Args:
        feature_dim: width of the features.
        temperature: τ.
        threshold: how confident a target row must be.
        queue: labelled source rows kept from earlier batches as further candidates (0 for none).

    Shapes: (n, d), (m, d), (n,), (m, K) -> ().

    Paper: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020; across domains with pseudo-labels as in Wang
    et al., Cross-domain Contrastive Learning for Unsupervised Domain Adaptation, 2021.
    """

    paper = "Khosla et al., Supervised Contrastive Learning, NeurIPS 2020"
    default_schedule = GENTLE

    def __init__(self, feature_dim: int, temperature: float = 0.1, threshold: float = 0.9, queue: int = 256):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold} must be between 0 and 1.")
        check_count("queue", queue, least=0)
        self.temperature, self.threshold = temperature, threshold
        self.queue = FeatureQueue(queue, feature_dim) if queue else None

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        target_logits: torch.Tensor,
    ) -> torch.Tensor:
        s, t = F.normalize(source_features, dim=-1), F.normalize(target_features, dim=-1)
        confidence, pseudo = target_logits.detach().softmax(-1).max(-1)
        pseudo = torch.where(confidence >= self.threshold, pseudo, -100)
        candidates, labels = s, source_labels
        if self.queue is not None:
            old, old_labels = self.queue.rows()
            candidates, labels = torch.cat([s, old]), torch.cat([source_labels, old_labels])
            self.queue.push(s, source_labels)
        return (self._contrast(t, pseudo, candidates, labels) + self._contrast(s, source_labels, t, pseudo)) / 2

    def _contrast(
        self, anchors: torch.Tensor, labels: torch.Tensor, candidates: torch.Tensor, candidate_labels: torch.Tensor
    ) -> torch.Tensor:
        """Mean over anchors with a positive; 0 when there is none. Shapes are static: rows are masked, not dropped."""
        similarity = anchors @ candidates.T / self.temperature
        positive = (labels.unsqueeze(1) == candidate_labels.unsqueeze(0)) & (labels >= 0).unsqueeze(1)
        usable = (candidate_labels >= 0).unsqueeze(0)
        similarity = similarity.masked_fill(~usable, torch.finfo(similarity.dtype).min / 2)
        log_share = similarity - similarity.logsumexp(1, keepdim=True)
        count = positive.sum(1)
        per_anchor = -torch.where(positive, log_share, 0).sum(1) / count.clamp_min(1)
        active = (count > 0).to(per_anchor.dtype)
        return (per_anchor * active).sum() / active.sum().clamp_min(1)
