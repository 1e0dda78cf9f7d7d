"""Feature queue: rows of past batches, for a kernel or a contrast over more rows than one batch holds. State in
buffers."""

from __future__ import annotations

import torch
from torch import nn

from ..ignored_label import IGNORE
from .step_counter import StepCounter


class FeatureQueue(nn.Module):
    """Queue of past features, first in, first out. Rows are detached.

    Args:
        size: rows kept.
        feature_dim: width of a row.

    Shapes: `push` takes (n, d) features and (n,) labels; `rows` gives (k, d) and (k,), k ≤ size.
    """

    features: torch.Tensor
    labels: torch.Tensor

    def __init__(self, size: int, feature_dim: int):
        super().__init__()
        self.size = size
        self.register_buffer("features", torch.zeros(size, feature_dim))
        self.register_buffer("labels", torch.full((size,), IGNORE))
        self.pushed = StepCounter()

    def push(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> None:
        """Newest rows, put in the place of the oldest."""
        features = features.detach()[-self.size :].to(self.features.dtype)
        positions = (self.pushed.value + torch.arange(len(features), device=features.device)) % self.size
        self.features[positions] = features
        self.labels[positions] = IGNORE if labels is None else labels.detach()[-self.size :]
        self.pushed.advance(len(features))

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the queue, and their labels."""
        k = min(self.pushed.value, self.size)
        return self.features[:k].clone(), self.labels[:k].clone()
