"""Mutual information of rows and predictions."""

from __future__ import annotations

import numpy as np

from .prediction_entropy import entropies
from .validator import Validator

LEAST = 0.01  # of an even share: a class that is not expected at all is still possible


class Information(Validator):
    r"""Mutual information of target rows and their predictions: each row certain, all rows together diverse.

    \[\frac{1}{\log K}\left[H\Big(\frac1m\sum_i p_i\Big) - \frac1m\sum_i H(p_i)\right]\]

    Between 0 (every row is predicted alike) and 1 (certain rows, classes of equal size). Where other frequencies π
    than equal ones are expected, diversity \(H(\bar p)\) becomes \(\log K - \mathrm{KL}(\bar p \,\Vert\, \pi)\): the
    most is then for classes of these frequencies, and predictions far from them fall below 0.

    Args:
        class_frequencies: (K,), π, those that are expected in the target; equal ones when absent.

    Paper: Bridle, Heading and MacKay, Unsupervised Classifiers, Mutual Information and 'Phantom Targets', NeurIPS
    1991.
    """

    name = "information"
    paper = "Bridle, Heading and MacKay, Unsupervised Classifiers, Mutual Information, NeurIPS 1991"

    def __init__(self, class_frequencies: np.ndarray | None = None):
        self.class_frequencies = class_frequencies

    def compute(self, target_probabilities: np.ndarray) -> float:
        p, mean = target_probabilities, target_probabilities.mean(0)
        diversity = entropies(mean)
        if self.class_frequencies is not None:
            diversity += mean @ np.log(mean.size * smoothed(self.class_frequencies))
        return (diversity - entropies(p).mean()) / np.log(max(2, mean.size))


def smoothed(class_frequencies: np.ndarray) -> np.ndarray:
    """(K,) frequencies that sum to 1, none below a hundredth of an even share."""
    frequencies = np.asarray(class_frequencies, dtype=np.float64)
    frequencies = np.maximum(frequencies / frequencies.sum(), LEAST / frequencies.size)
    return frequencies / frequencies.sum()
