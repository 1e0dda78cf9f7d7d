"""Accuracy of nearest neighbours, leave one out."""

from __future__ import annotations

import numpy as np

from .transferability_score import TransferabilityScore

CHUNK = 512  # rows whose similarities are held at a time


class NearestNeighbours(TransferabilityScore):
    """Accuracy of k nearest neighbours: each row is called by those of the others that are most like it.

    Likeness is the cosine of centred features. Classes with equal votes: the one whose neighbours are nearer.
    Hardly worse than scores that are harder to explain (PARC's authors report 68.0 against 70.3).

    Args:
        neighbours: k; all others where there are fewer.

    Paper: Bolya, Mittapalli and Hoffman, Scalable Diverse Model Selection for Accessible Transfer Learning,
    NeurIPS 2021 (the baseline); Wang et al., SimpleShot, arXiv 1911.04623 (centring).
    """

    name = "knn"
    paper = "Wang et al., SimpleShot, arXiv 1911.04623"

    def __init__(self, neighbours: int = 5):
        if neighbours < 1:
            raise ValueError(f"neighbours={neighbours} must be at least 1.")
        self.neighbours = neighbours

    def compute(self, features: np.ndarray, classes: np.ndarray) -> float:
        rows = features - features.mean(0)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = (rows / np.where(norms > 0, norms, 1.0)).astype(np.float32)
        count = min(self.neighbours, len(rows) - 1)
        # By a vote more a class wins; among equal ones the nearer do, since all these parts sum to less than a vote.
        votes = 1 + (count - np.arange(count)) / (count + 1) ** 2
        right = 0
        for start in range(0, len(rows), CHUNK):
            likeness = rows[start : start + CHUNK] @ rows.T
            own = np.arange(len(likeness))
            likeness[own, start + own] = -np.inf
            nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            order = np.argsort(-np.take_along_axis(likeness, nearest, 1), axis=1, kind="stable")
            called = np.zeros((len(likeness), classes.max() + 1))
            np.add.at(called, (own[:, None], classes[np.take_along_axis(nearest, order, 1)]), votes)
            right += int((called.argmax(1) == classes[start : start + CHUNK]).sum())
        return right / len(rows)
