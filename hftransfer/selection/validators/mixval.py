"""Accuracy on mixtures of target rows."""

from __future__ import annotations

import numpy as np

from ..model_predictions import MixedPairs
from .validator import Validator

SHARE = 0.55  # of the first row in a mixture


def draw_pairs(predicted: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of target rows to mix: each row with another, drawn at random.

    Args:
        predicted: (m,) predicted classes.
        seed: of the draw.

    Returns:
        (m,) first and (m,) second rows; no row is mixed with itself.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(predicted) < 2:
        raise ValueError("Mixtures need at least two target rows.")
    draw = np.random.default_rng(seed)
    first = draw.permutation(len(predicted))
    return first, np.roll(first, 1)


class _MixVal(Validator):
    paper = "Hu et al., Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS 2023"
    same: bool

    def compute(self, target_probabilities: np.ndarray, mixed: MixedPairs) -> float:
        predicted = target_probabilities.argmax(1)
        first, second = predicted[mixed.first], predicted[mixed.second]
        chosen = (first == second) == self.same
        if not chosen.any():
            return 0.0
        return (mixed.probabilities.argmax(1) == first)[chosen].mean()


class MixValInter(_MixVal):
    """Share of mixtures of two predicted classes that are predicted as the class of the larger part.

    The mixture is 0.55 of the first row and 0.45 of the second: of pixels, or of embedded texts. It probes whether
    the boundary lies between the clusters. 0 where one class is predicted throughout.

    Paper: Hu et al., Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS 2023.
    """

    name = "mixval_inter"
    same = False


class MixValIntra(_MixVal):
    """Share of mixtures within one predicted class that keep the class.

    It probes whether the clusters are dense. 1 where one class is predicted throughout: never use it alone.

    Paper: Hu et al., Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS 2023.
    """

    name = "mixval_intra"
    same = True
