"""Normalised temperature-scaled cross-entropy (NT-Xent) between two views of the target."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from ..base import Objective, Range, check_count, is_positive
from ..contrastive import contrastive_loss
from ..feature_queue import FeatureQueue


class NTXent(Objective):
    r"""Normalised temperature-scaled cross-entropy: two views of a target row recognise each other among all other
    rows.

    The second view is the same row under another dropout mask (text), run in the same joint forward. With 2m
    normalised projections z, row i and its other view j(i):

    \[-\frac{1}{2m}\sum_i
      \log\frac{\exp(\mathrm{sim}(z_i, z_{j(i)})/\tau)}{\sum_{k\ne i}\exp(\mathrm{sim}(z_i, z_k)/\tau)}\]

    sim is the cosine. A model that tells nothing apart scores log(2m - 1).

    With a queue of Q rows the sum under the fraction also runs over projections of earlier batches: log(2m - 1 + Q).
    They are negatives only, never anchors or positives. They have no gradient, so as anchors they would teach nothing,
    and the rows that would be their other views are not in the batch. A row of the batch that is in the queue as well
    pushes itself away: keep the queue shorter than the target. One projection a row is kept, that of the first view.

    Args:
        feature_dim: width of the features.
        temperature: τ; 0.1 was seen to push target rows of one class apart, 0.5 is SimCLR's.
        projection_dim: width of the projection that is contrasted; 0 contrasts the features themselves.
        queue: projected target rows kept from earlier batches as further negatives (0 for none).
        chunk: anchors taken at a time, computed again in the backward pass: memory then grows with the batch and not
            with its square (0 for all at once).

    Shapes: (m, d), (m, d) -> ().

    Paper: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020; dropout as
    augmentation: Gao et al., SimCSE, EMNLP 2021; the queue: He et al., Momentum Contrast for Unsupervised Visual
    Representation Learning, CVPR 2020, without its momentum encoder.
    """

    paper = "Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020"
    default_weight = 0.03  # at 0.1 one run of three lost 6.5 points on its own source
    default_schedule = "warm_start"
    search: ClassVar = {
        "weight": Range(0.003, 0.3, log=True),
        "temperature": Range(0.05, 1.0, log=True),
        "projection_dim": (0, 64, 128),
        "queue": (0, 256),
    }

    def __init__(
        self, feature_dim: int, temperature: float = 0.5, projection_dim: int = 128, queue: int = 0, chunk: int = 0
    ):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        check_count("projection_dim", projection_dim, least=0)
        check_count("queue", queue, least=0)
        check_count("chunk", chunk, least=0)
        self.temperature, self.chunk = temperature, chunk
        self.projection: nn.Module = nn.Identity()
        if projection_dim:
            self.projection = nn.Sequential(
                nn.Linear(feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, projection_dim)
            )
        self.queue = FeatureQueue(queue, projection_dim or feature_dim) if queue else None

    def forward(self, target_features: torch.Tensor, target_view_features: torch.Tensor) -> torch.Tensor:
        z = F.normalize(self.projection(torch.cat([target_features, target_view_features])), dim=-1)
        m, candidates = len(target_features), z
        if self.queue is not None:
            candidates = torch.cat([z, self.queue.rows()[0]])
            self.queue.push(z[:m])
        other_view = z.roll(m, 0)
        return contrastive_loss(z, other_view, candidates, self.temperature, chunk=self.chunk, skip_self=True).mean()
