"""NCE: negative conditional entropy of the labels."""

from __future__ import annotations

import numpy as np

from .transferability_score import TransferabilityScore


class NCE(TransferabilityScore):
    r"""Negative conditional entropy of the labels, given the source classes that the checkpoint predicts.

    \[-H(Y \mid Z) = \sum_{y,z}\hat P(y,z)\,\log\frac{\hat P(y,z)}{\hat P(z)}\]

    with z the most probable class of the checkpoint's own head. In nats, at most 0: 0 where each predicted class has
    rows of one label.

    Paper: Tran, Nguyen and Hassner, Transferability and Hardness of Supervised Classification Tasks, ICCV 2019.
    """

    name = "nce"
    paper = "Tran, Nguyen and Hassner, Transferability and Hardness, ICCV 2019"

    def compute(self, source_probabilities: np.ndarray, classes: np.ndarray) -> float:
        joint = np.zeros((classes.max() + 1, source_probabilities.shape[1]))
        np.add.at(joint, (classes, source_probabilities.argmax(1)), 1 / len(classes))
        occurs = joint > 0
        ratio = (joint / np.where(occurs.any(0), joint.sum(0), 1))[occurs]
        return (joint[occurs] * np.log(ratio)).sum()
