"""Soft neighborhood density."""

from __future__ import annotations

import numpy as np

from ..model_predictions import softmax
from .prediction_entropy import entropies
from .validator import Validator

CHUNK = 512  # rows whose similarities are held at a time


class SND(Validator):
    r"""Soft neighborhood density: how many neighbours target rows have among each other.

    \[\frac1m\sum_i H\big(\mathrm{softmax}_{j \ne i}(\cos(f_i, f_j)/\tau)\big)\]

    with f the target's predictions. Larger means tighter clusters; a collapsed model, all rows alike, scores best:
    never use it alone.

    Args:
        temperature: τ.

    Paper: Saito et al., Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
    Density, ICCV 2021.
    """

    name = "snd"
    paper = "Saito et al., Tune it the Right Way, ICCV 2021"

    def __init__(self, temperature: float = 0.05):
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r} must be a positive number.")
        self.temperature = temperature

    def compute(self, target_probabilities: np.ndarray) -> float:
        p = target_probabilities / np.linalg.norm(target_probabilities, axis=1, keepdims=True)
        if len(p) < 2:
            raise ValueError("snd needs at least two target rows.")
        total = 0.0
        for start in range(0, len(p), CHUNK):
            similar = p[start : start + CHUNK] @ p.T / self.temperature
            similar[np.arange(len(similar)), start + np.arange(len(similar))] = -np.inf
            total += entropies(softmax(similar)).sum()
        return total / len(p)
