"""Prediction entropy."""

from __future__ import annotations

import numpy as np

from .validator import Validator


def entropies(probabilities: np.ndarray) -> np.ndarray:
    """(…, K) probabilities -> (…,) entropies in nats; 0 · log 0 counts 0."""
    p = np.asarray(probabilities, dtype=np.float64)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)


class Entropy(Validator):
    r"""Normalised prediction entropy of the target, negated.

    \[-\frac{1}{m \log K}\sum_i H(p_i)\]

    Between -1 (nothing is known of any row) and 0. A model that calls every row one class with certainty scores best:
    never use it alone.

    Paper: Morerio et al., Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain Adaptation, ICLR 2018.
    """

    name = "entropy"
    paper = "Morerio et al., Minimal-Entropy Correlation Alignment, ICLR 2018"

    def compute(self, target_probabilities: np.ndarray) -> float:
        return -entropies(target_probabilities).mean() / np.log(max(2, target_probabilities.shape[1]))
