"""A-distance of a labelled set from the domain to come from, as a score."""

from __future__ import annotations

import numpy as np

from ..domain_distance import proxy_a_distance
from .transferability_score import TransferabilityScore


class ADistance(TransferabilityScore):
    """Minus the proxy A-distance: 0 where the checkpoint cannot tell the two domains apart, -2 where it always can.

    It reads no labels. See `proxy_a_distance`.

    Paper: Ben-David et al., Analysis of Representations for Domain Adaptation, NIPS 2006 (published 2007).
    """

    name = "a_distance"
    paper = "Ben-David et al., Analysis of Representations for Domain Adaptation, NIPS 2006"

    def compute(self, source_features: np.ndarray, features: np.ndarray, seed: int) -> float:
        return -proxy_a_distance(source_features, features, seed)
