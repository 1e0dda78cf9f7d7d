"""Centroid pseudo-labels (SHOT): class centroids of the target's own features, and the nearest one of each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..setting_ranges import COUNT
from .feature_arrays import feature_matrix

ROUNDS = 2


def centroid_labels(features: ArrayLike, probabilities: ArrayLike, rounds: int = ROUNDS) -> np.ndarray:
    r"""Pseudo-labels of target rows by the nearest class centroid, by the cosine.

    \[c_k = \frac{\sum_i p_{ik} f_i}{\sum_i p_{ik}}, \qquad y_i = \arg\max_k \cos(f_i, c_k), \qquad
      c_k \leftarrow \frac1{|\{i : y_i = k\}|}\sum_{i : y_i = k} f_i\]

    with \(f_i\) the features, a 1 appended, of length 1. The first round has the centroids of the soft predictions,
    each further one those of the labels before it. A class that is predicted on no row is given to none: its centroid
    would stand for nothing. One that loses all its rows in a round keeps its centroid.

    Args:
        features: (m, d), what the final layer sees.
        probabilities: (m, K) of the same rows.
        rounds: at least 1.

    Returns:
        (m,) class numbers.

    Raises:
        ValueError: arrays that do not fit each other, are not finite, or no whole number of rounds.

    Paper: Liang, Hu and Feng, Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised
    Domain Adaptation, ICML 2020.

    Example:
        >>> features = [[1.0, 0.1], [0.9, 0.0], [0.1, 1.0], [0.3, 0.9]]
        >>> centroid_labels(features, [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
        array([0, 0, 1, 1])
    """
    rounds = int(COUNT.read("rounds", rounds))
    f, p = feature_matrix("features", features), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or len(p) != len(f) or not np.isfinite(p).all():
        raise ValueError(f"probabilities must be {len(f)} rows of finite numbers, not of shape {p.shape}.")
    f = _unit(np.concatenate([f, np.ones((len(f), 1))], axis=1))
    predicted = np.bincount(p.argmax(1), minlength=p.shape[1]) > 0
    weights, centroids = p, np.zeros((p.shape[1], f.shape[1]))
    labels = p.argmax(1)
    for _ in range(rounds):
        mass = weights.sum(0)
        seen = mass > 0
        centroids[seen] = (weights.T @ f)[seen] / mass[seen, None]
        cosines = f @ _unit(centroids).T
        labels = np.where(predicted, cosines, -np.inf).argmax(1)
        weights = np.eye(p.shape[1])[labels]
    return labels


def _unit(x: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.maximum(norms, np.finfo(np.float64).tiny)
