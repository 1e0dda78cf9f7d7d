"""Agreement with the mean of all candidates."""

from __future__ import annotations

import numpy as np

from .validator import Validator


class EnsembleAgreement(Validator):
    """Share of target rows that are predicted as the mean of all candidates predicts them.

    The mean is mostly better than any of its members, and never far below the best.

    Paper: Hu et al., Towards Reliable Model Selection for Unsupervised Domain Adaptation: An Empirical Study and A
    Certified Baseline, NeurIPS 2024 (EnsV).
    """

    name = "ensemble_agreement"
    paper = "Hu et al., Towards Reliable Model Selection for Unsupervised Domain Adaptation (EnsV), NeurIPS 2024"

    def compute(self, target_probabilities: np.ndarray, reference_probabilities: np.ndarray) -> float:
        return (target_probabilities.argmax(1) == reference_probabilities.argmax(1)).mean()
