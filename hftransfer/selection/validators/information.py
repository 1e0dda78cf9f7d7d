"""Mutual information of rows and predictions."""

from __future__ import annotations

import numpy as np

from .prediction_entropy import entropies
from .validator import Validator


class Information(Validator):
    r"""Mutual information of target rows and their predictions: each row certain, all rows together diverse.

    \[\frac{1}{\log K}\left[H\Big(\frac1m\sum_i p_i\Big) - \frac1m\sum_i H(p_i)\right]\]

    Between 0 (every row is predicted alike) and 1 (certain rows, classes of equal size).

    Paper: Bridle, Heading and MacKay, Unsupervised Classifiers, Mutual Information and 'Phantom Targets', NeurIPS
    1991.
    """

    name = "information"
    paper = "Bridle, Heading and MacKay, Unsupervised Classifiers, Mutual Information, NeurIPS 1991"

    def compute(self, target_probabilities: np.ndarray) -> float:
        p = target_probabilities
        return (entropies(p.mean(0)) - entropies(p).mean()) / np.log(max(2, p.shape[1]))
