"""Bi-Tuning: contrast of rows with rows and with the classes' vectors, beside the cross-entropy."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ..base import Objective, Range, check_count, is_positive
from ..contrastive import excluded_logit
from ..feature_queue import FeatureQueue
from ..moments import class_membership


class BiTuning(Objective):
    r"""Bi-Tuning: contrastive fine-tuning in two ways.

    Labelled rows find their class among rows, twice: the head's class vectors do, and the rows themselves.

    For an anchor q with keys A and those of its class P ⊂ A,

    \[\ell(q) = -\frac1{|P|}\sum_{p\in P}\log\frac{\exp(q\cdot k_p/\tau)}{\sum_{a\in A}\exp(q\cdot k_a/\tau)}\]

    \[\frac1n\sum_i \ell(\hat w_{y_i}) + \frac1{n}\sum_i \ell(z_i)\]

    The first term (the paper's contrastive cross-entropy) has the head's vector of the row's class as anchor and the
    features \(\hat h\) of all labelled rows as keys; the second (categorical contrast) has projections z as anchors
    and the other rows' projections as keys. Everything has length 1. Keys of earlier batches come from a queue,
    without gradient; a row without another of its class counts 0 in the second term.

    The paper's keys come from a momentum encoder on another view of the image. There is none here: a second model
    would cost its memory, and rows of text have no second view; keys are those of the batch and of a queue kept short.

    Args:
        feature_dim, num_classes: widths.
        temperature: τ.
        projection_dim: width of z.
        queue: rows kept for each class, on average (0 for none); the paper's K.

    Shapes: (n, d), (n,), (classes, d) -> ().

    Paper: Zhong et al., Bi-tuning of Pre-trained Representations, 2020 (arXiv 2011.06182).
    """

    paper = "Zhong et al., Bi-tuning of Pre-trained Representations, 2020"
    at_head = True
    search: ClassVar = {
        "weight": Range(0.1, 10.0, log=True),
        "temperature": Range(0.03, 0.5, log=True),
        "projection_dim": (64, 128),
        "queue": (0, 8, 40),
    }

    def __init__(
        self, feature_dim: int, num_classes: int, temperature: float = 0.07, projection_dim: int = 128, queue: int = 40
    ):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        check_count("projection_dim", projection_dim)
        check_count("queue", queue, least=0)
        self.temperature, self.feature_dim = temperature, feature_dim
        self.projection = nn.Linear(feature_dim, projection_dim)
        self.queue = FeatureQueue(queue * num_classes, feature_dim + projection_dim) if queue else None

    def forward(
        self, source_features: torch.Tensor, source_labels: torch.Tensor, class_vectors: torch.Tensor
    ) -> torch.Tensor:
        h = F.normalize(source_features, dim=-1)
        z = F.normalize(self.projection(source_features), dim=-1)
        w = F.normalize(class_vectors, dim=-1)
        keys, labels = torch.cat([h, z], 1), source_labels
        if self.queue is not None:
            queued, queued_labels = self.queue.rows()
            self.queue.push(keys, source_labels)
            keys, labels = torch.cat([keys, queued]), torch.cat([labels, queued_labels])
        row_classes, key_classes = class_membership(source_labels, len(w)), class_membership(labels, len(w))
        same_class = row_classes.float() @ key_classes.float().T > 0  # (n, keys)
        anchors = row_classes.to(h.dtype) @ w
        itself = torch.zeros_like(same_class)
        itself.fill_diagonal_(True)
        usable = (labels >= 0).expand_as(same_class)
        classes = self._contrast(anchors, keys[:, : self.feature_dim], usable, same_class)
        rows = self._contrast(z, keys[:, self.feature_dim :], usable & ~itself, same_class & ~itself)
        return (classes.sum() + rows.sum()) / row_classes.sum().clamp_min(1)

    def _contrast(
        self, anchors: torch.Tensor, keys: torch.Tensor, usable: torch.Tensor, positives: torch.Tensor
    ) -> torch.Tensor:
        """Contrastive loss of each anchor, (n,); 0 for one without a positive."""
        logits = (anchors @ keys.T / self.temperature).masked_fill(~usable, excluded_logit(anchors))
        share = positives.to(logits.dtype) / positives.sum(1, keepdim=True).clamp_min(1)
        return -(share * torch.where(positives, logits.log_softmax(1), 0.0)).sum(1)
