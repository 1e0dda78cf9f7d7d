"""Affine form of a linear probe: weights and bias of any scikit-learn estimator that is linear in its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-6  # of what an affine function may differ from its own weights, by its size


@dataclass(frozen=True)
class AffineProbe:
    """Affine function of features that gives logits, as a model's last layer does.

    Args:
        weight: (K, d).
        bias: (K,).
        names: of the classes; `None` of a regression, which has one output.
    """

    weight: np.ndarray
    bias: np.ndarray
    names: tuple[str, ...] | None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, K)."""
        return np.asarray(features @ self.weight.T + self.bias)


def affine_probe(estimator: Any, width: int) -> AffineProbe:
    """Weights and bias of a fitted estimator, or of a pipeline of such, found by asking it.

    What scales, projects or centres before the classifier is folded in. Of two classes, where scikit-learn has one
    score f, the logits are (-f/2, f/2): their softmax is the sigmoid of f.

    Args:
        estimator: a classifier with `decision_function`, or a regressor.
        width: of its features.

    Raises:
        ValueError: it is not affine, or it gives something else than one score a class.

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> probe = affine_probe(Ridge(alpha=1e-9).fit([[0.0], [1.0]], [1.0, 3.0]), 1)
        >>> probe.weight.round(3), probe.bias.round(3), probe.names
        (array([[2.]]), array([1.]), None)
    """
    name = type(estimator[-1] if hasattr(estimator, "steps") else estimator).__name__
    classes = getattr(estimator, "classes_", None)
    ask = estimator.predict if classes is None else getattr(estimator, "decision_function", None)
    if ask is None:
        raise ValueError(f"{name} has no decision_function: only a linear probe becomes a model's last layer.")

    def scores(features: np.ndarray) -> np.ndarray:
        values = np.asarray(ask(features), dtype=float)
        if values.ndim == 1 and classes is not None:
            return np.stack([-values / 2, values / 2], axis=1)
        return values.reshape(len(features), -1)

    bias = scores(np.zeros((1, width)))[0]
    weight = (scores(np.eye(width)) - bias).T
    expected = 1 if classes is None else len(classes)
    if weight.shape[0] != expected:
        raise ValueError(
            f"{name} gives {weight.shape[0]} scores for {expected} classes, and a model has one a class. For an SVC, "
            'decision_function_shape="ovr" with a linear kernel gives that; LinearSVC does.'
        )
    points = np.random.default_rng(0).normal(size=(8, width)) * np.logspace(-1, 1, 8)[:, None]
    answers = scores(points)
    if not np.allclose(
        answers, points @ weight.T + bias, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(answers).max()))
    ):
        raise ValueError(
            f"{name} is not linear in its features, and a model's last layer is. Use a logistic regression, a ridge "
            "or a linear SVM, scaling and PCA before it included."
        )
    return AffineProbe(weight, bias, None if classes is None else tuple(str(value) for value in classes))
