"""Supervised contrastive learning (SupCon) across domains with confident pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from ..base import Objective, Range, check_count, is_positive
from ..contrastive import contrastive_loss, excluded_logit
from ..feature_queue import FeatureQueue
from ..moments import class_membership, mean, row_weights, shares
from ..pseudo_labels import PseudoLabels, without_relative_threshold, without_source_logits


class SupCon(Objective):
    r"""Supervised contrastive learning across domains.

    Rows of one class are drawn together across domains and pushed from the other classes.

    A target row takes part once the model is nearly as sure of it as of the source (`PseudoLabels`), with the
    predicted class as its label. For an anchor i with candidates A(i), the labelled rows of the *other* domain, and
    positives P(i) ⊂ A(i), those of its class:

    \[-\frac{1}{|P(i)|}\sum_{p\in P(i)} \log\frac{\exp(z_i\cdot z_p/\tau)}{\sum_{a\in A(i)}\exp(z_i\cdot z_a/\tau)}\]

    averaged over the anchors of each domain that have a positive, then over the two domains; z are L2-normalised
    features. Without a confident target row the loss is 0.

    Source weights w count rows: a source anchor counts w_i in the mean over anchors, a source candidate w_a in the
    sum under the fraction, a source positive w_p in the mean over positives. So weight 2 is that row twice, and a
    class that the target has less often pushes less.

    Args:
        feature_dim: width of the features.
        temperature: τ.
        threshold: a fixed probability that a target row's prediction must have; relative to the source when `None`.
        queue: labelled source rows kept from earlier batches as further candidates (0 for none), each with the weight
            it came with.
        chunk: anchors taken at a time, computed again in the backward pass: memory then grows with the batch and not
            with its square (0 for all at once).
        relative_threshold: the same as a share of the mean confidence on source rows; 0.9 when both are `None`.
        per_class: lower the bar of classes whose rows seldom pass it.
        num_classes: width of the logits; only `per_class` needs it.

    Shapes: (n, d), (m, d), (n,), (m, K), (n,), (n, K) -> ().

    Paper: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020; across domains with pseudo-labels as in Wang
    et al., Cross-domain Contrastive Learning for Unsupervised Domain Adaptation, 2021; the relative threshold:
    Berthelot et al., AdaMatch, ICLR 2022.
    """

    paper = "Khosla et al., Supervised Contrastive Learning, NeurIPS 2020"
    default_weight = 0.1
    default_schedule = "warm_start"
    search: ClassVar = {
        "weight": Range(0.01, 1.0, log=True),
        "temperature": Range(0.05, 0.5, log=True),
        "relative_threshold": (None, 0.7, 0.8, 1.0),
        "per_class": (False, True),
        "queue": (0, 256, 1024),
    }

    def __init__(
        self,
        feature_dim: int,
        temperature: float = 0.1,
        threshold: float | None = None,
        queue: int = 256,
        chunk: int = 0,
        relative_threshold: float | None = None,
        per_class: bool = False,
        num_classes: int | None = None,
    ):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        check_count("queue", queue, least=0)
        check_count("chunk", chunk, least=0)
        self.temperature, self.chunk = temperature, chunk
        self.pseudo_labels = PseudoLabels(num_classes, threshold, relative_threshold, per_class)
        self.queue = FeatureQueue(queue, feature_dim + 1) if queue else None  # the last column is the weight

    @classmethod
    def search_ranges(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return without_relative_threshold(settings, super().search_ranges(settings))

    @classmethod
    def reads(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        return without_source_logits(settings, super().reads(settings))

    def forward(
        self,
        source_features: torch.Tensor,
        target_features: torch.Tensor,
        source_labels: torch.Tensor,
        target_logits: torch.Tensor,
        source_weights: torch.Tensor | None = None,
        source_logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        source_weights = row_weights(source_features, source_weights)
        s, t = F.normalize(source_features, dim=-1), F.normalize(target_features, dim=-1)
        weights, ones = source_weights.detach(), t.new_ones(len(t))
        pseudo, classes = (
            self.pseudo_labels(target_logits, source_logits, source_labels, source_weights),
            target_logits.shape[1],
        )
        source_side = self._contrast(s, source_labels, weights, t, pseudo, ones, classes)
        candidates, labels, counts = s, source_labels, weights
        if self.queue is not None:
            queued, queued_labels = self.queue.rows()
            self.queue.push(torch.cat([s, weights.unsqueeze(1)], 1), source_labels)
            candidates, labels = torch.cat([s, queued[:, :-1]]), torch.cat([labels, queued_labels])
            counts = torch.cat([weights, queued[:, -1]])
        return (self._contrast(t, pseudo, ones, candidates, labels, counts, classes) + source_side) / 2

    def _contrast(
        self,
        anchors: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        candidates: torch.Tensor,
        candidate_labels: torch.Tensor,
        counts: torch.Tensor,
        classes: int,
    ) -> torch.Tensor:
        """Weighted mean of the contrastive loss over anchors with a positive; 0 when there is none. Rows are masked,
        not dropped."""
        anchor_classes = class_membership(labels, classes).to(anchors.dtype)
        of_class = class_membership(candidate_labels, classes) * counts.unsqueeze(1)
        positives = anchor_classes @ (shares(of_class).T @ candidates)  # their weighted mean
        has_positive = anchor_classes @ (of_class.sum(0) > 0).to(anchors.dtype)
        usable = (candidate_labels >= 0) & (counts > 0)
        offsets = torch.where(usable, counts.log(), excluded_logit(anchors))
        per_anchor = contrastive_loss(anchors, positives, candidates, self.temperature, offsets, self.chunk)
        return mean(torch.where(has_positive > 0, per_anchor, 0), weights * has_positive)
