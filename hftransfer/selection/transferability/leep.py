"""LEEP: log expected empirical prediction."""

from __future__ import annotations

import numpy as np

from .transferability_score import TransferabilityScore


class LEEP(TransferabilityScore):
    r"""LEEP, the log-likelihood of the labels under a predictor that goes by way of the source's classes.

    \[\frac1n\sum_i \log\sum_z \hat P(y_i \mid z)\,\theta(x_i)_z, \qquad
      \hat P(y, z) = \frac1n\sum_{i:\,y_i=y}\theta(x_i)_z\]

    with θ(x) the predictions of the checkpoint's own head. At most 0. A source class that no row has any probability
    of adds nothing.

    Paper: Nguyen et al., LEEP: A New Measure to Evaluate Transferability of Learned Representations, ICML 2020.
    """

    name = "leep"
    paper = "Nguyen et al., LEEP, ICML 2020"

    def compute(self, source_probabilities: np.ndarray, classes: np.ndarray) -> float:
        joint = np.eye(classes.max() + 1)[classes].T @ source_probabilities  # (K, C)
        mass = joint.sum(0)
        conditional = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
        return np.log((source_probabilities * conditional[classes]).sum(1)).mean()
