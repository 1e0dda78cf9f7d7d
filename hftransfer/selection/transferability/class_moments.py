"""Class moments: number of rows and mean of each class."""

from __future__ import annotations

import numpy as np


def class_means(features: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) and (n,) ids of classes that all occur -> (K,) counts and (K, d) means."""
    counts = np.bincount(classes)
    return counts, np.eye(len(counts))[classes].T @ features / counts[:, None]
