"""Agreement with the mean of all candidates, hard and soft."""

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


class EnsembleConfidence(Validator):
    """Mean probability that the mean of all candidates gives to what is predicted.

    Soft agreement: an answer that the mean nearly gave costs little. Where the mean is calibrated, it is the accuracy
    that the mean expects of the model.

    Paper: Jiang et al., Assessing Generalization of SGD via Disagreement, ICLR 2022 (in whose hard form members take
    the place of labels).
    """

    name = "ensemble_confidence"
    paper = "Jiang et al., Assessing Generalization of SGD via Disagreement, ICLR 2022"

    def compute(self, target_probabilities: np.ndarray, reference_probabilities: np.ndarray) -> float:
        chosen = target_probabilities.argmax(1)
        return reference_probabilities[np.arange(len(chosen)), chosen].mean()
