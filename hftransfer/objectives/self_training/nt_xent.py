"""Normalised temperature-scaled cross-entropy between two views of the target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..base import Objective, check_count, is_positive
from ..schedules import GENTLE


class NTXent(Objective):
    r"""Two views of a target row recognise each other among all other rows.

    The second view is the same row under another dropout mask (text), run in the same joint forward. With 2m
    normalised projections z, row i and its other view j(i):

    \[-\frac{1}{2m}\sum_i
      \log\frac{\exp(\mathrm{sim}(z_i, z_{j(i)})/\tau)}{\sum_{k\ne i}\exp(\mathrm{sim}(z_i, z_k)/\tau)}\]

    sim is the cosine. A model that tells nothing apart scores log(2m - 1).

    Args:
        feature_dim: width of the features.
        temperature: τ; 0.1 was seen to push target rows of one class apart, 0.5 is SimCLR's.
        projection_dim: width of the projection that is contrasted; 0 contrasts the features themselves.

    Shapes: (m, d), (m, d) -> ().

    Paper: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020; dropout as
    augmentation: Gao et al., SimCSE, EMNLP 2021.
    """

    paper = "Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020"
    default_schedule = GENTLE

    def __init__(self, feature_dim: int, temperature: float = 0.5, projection_dim: int = 128):
        super().__init__()
        if not is_positive(temperature):
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        check_count("projection_dim", projection_dim, least=0)
        self.temperature = temperature
        self.projection: nn.Module = nn.Identity()
        if projection_dim:
            self.projection = nn.Sequential(
                nn.Linear(feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, projection_dim)
            )

    def forward(self, target_features: torch.Tensor, target_view_features: torch.Tensor) -> torch.Tensor:
        z = F.normalize(self.projection(torch.cat([target_features, target_view_features])), dim=-1)
        m = len(target_features)
        similarity = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
        other = (torch.arange(2 * m, device=z.device) + m) % (2 * m)
        return F.cross_entropy(similarity, other)
