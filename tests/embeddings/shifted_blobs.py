"""Labelled features of two domains, whose density ratio or map is known."""

from __future__ import annotations

import numpy as np


def gaussians(n: int, m: int, dim: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source and target of unit variance, `shift` apart, and the true density ratio on the source rows."""
    draw = np.random.default_rng(seed)
    source, target = draw.normal(size=(n, dim)), draw.normal(size=(m, dim))
    target[:, 0] += shift
    return source, target, np.exp(shift * source[:, 0] - shift**2 / 2)


def mapped_classes(seed: int = 0, rows: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes, source and target with the same labels in the same order, the target stretched and moved."""
    draw = np.random.default_rng(seed)
    labels = np.repeat([0, 1], rows)
    source, target = (draw.normal(size=(2 * rows, 4)) + 2 * labels[:, None] * [1, 1, 0, 0] for _ in range(2))
    return source, labels, target * [1.0, 2.0, 0.5, 1.0] + [3.0, -2.0, 1.0, 0.0]


def straight_shift(seed: int, n: int = 400, m: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Covariate shift under which a linear classifier is right in both domains, so that weights can only cost."""
    draw = np.random.default_rng(seed)
    source, target = draw.normal(size=(n, 2)), draw.normal(size=(m, 2))
    target[:, 0] += 1.0

    def labels(x):
        return (x[:, 0] - 0.5 * x[:, 1] + 0.5 * draw.normal(size=len(x)) > 0.5).astype(int)

    return source, labels(source), target, labels(target)


def curved_shift(seed: int, n: int = 400, m: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Covariate shift where a line is no good model everywhere: source, labels, target, target labels.

    The border is x₂ = |x₁| with noise: the target lies where it rises, the source mostly where it falls.
    """
    draw = np.random.default_rng(seed)

    def labels(x):
        return (x[:, 1] + 0.2 * draw.normal(size=len(x)) > np.abs(x[:, 0])).astype(int)

    source = draw.normal(size=(n, 2)) * [1.2, 1.0] + [-0.6, 0.8]
    target = draw.normal(size=(m, 2)) * [0.7, 1.0] + [0.8, 0.8]
    return source, labels(source), target, labels(target)
