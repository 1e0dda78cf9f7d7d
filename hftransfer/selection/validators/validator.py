"""Base class of validators: scores of a model that need no target labels."""

from __future__ import annotations

from ..model_predictions import Predictions
from ..named_score import NamedScore

REMEDIES = {
    "source_features": "pass source_features and target_features",
    "target_features": "pass target_features",
    "density_ratio": "pass source_features and target_features",
    "reference_probabilities": "pass reference_probabilities, the mean prediction of all candidates",
    "mixed": "pass mixed, the predictions on mixtures of target rows",
}


class Validator(NamedScore):
    """A score of a model from its predictions, better when it is larger.

    A subclass writes `compute`, whose arguments name what it reads of `Predictions`: `source_probabilities`,
    `source_labels`, `target_probabilities`, `source_features`, `target_features`, `density_ratio`,
    `reference_probabilities`, `mixed`, `seed`.

    Example:
        >>> class Confidence(Validator):
        ...     name = "confidence"
        ...
        ...     def compute(self, target_probabilities):
        ...         return target_probabilities.max(1).mean()
        >>> p = Predictions([[2.0, 0.0]], [0], [[0.0, 0.0], [9.0, 0.0]])
        >>> round(Confidence().score(p), 2)
        0.75
    """

    remedies = REMEDIES

    def score(self, predictions: Predictions) -> float:
        """The score of these predictions.

        Raises:
            ValueError: they lack an input that the score reads; the message says which, and how to pass it.
        """
        return super().score(predictions)
