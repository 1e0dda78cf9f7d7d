"""Accuracy on the source's validation rows."""

from __future__ import annotations

import numpy as np

from .validator import Validator


class SourceAccuracy(Validator):
    """Share of source validation rows that are predicted right: what no adaptation should lose.

    Paper: Musgrave, Belongie and Lim, Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain
    Adaptation, arXiv 2208.07360 (as a validator it is hard to beat).
    """

    name = "source_accuracy"
    paper = "Musgrave, Belongie and Lim, Three New Validators, arXiv 2208.07360"

    def compute(self, source_probabilities: np.ndarray, source_labels: np.ndarray) -> float:
        return (source_probabilities.argmax(1) == source_labels).mean()
