"""Base class of validators: scores of a model that need no target labels."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from ..model_predictions import Predictions

REMEDIES = {
    "source_features": "pass source_features and target_features",
    "target_features": "pass target_features",
    "density_ratio": "pass source_features and target_features",
    "reference_probabilities": "pass reference_probabilities, the mean prediction of all candidates",
    "mixed": "pass mixed, the predictions on mixtures of target rows",
}


class Validator:
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

    name: ClassVar[str]
    paper: ClassVar[str] = ""

    def compute(self, *args: Any, **kwargs: Any) -> float:
        """The score, from the inputs that its arguments name."""
        raise NotImplementedError(f"{type(self).__name__} has no `compute`.")

    @classmethod
    def needs(cls) -> tuple[str, ...]:
        """Names of the inputs that `compute` reads."""
        return tuple(name for name in inspect.signature(cls.compute).parameters if name != "self")

    def score(self, predictions: Predictions) -> float:
        """The score of these predictions.

        Raises:
            ValueError: they lack an input that the score reads; the message says which, and how to pass it.
        """
        inputs = {name: getattr(predictions, name) for name in self.needs()}
        missing = [name for name, value in inputs.items() if value is None]
        if missing:
            raise ValueError(f"{self.name} needs {missing[0]}: {REMEDIES.get(missing[0], 'pass it')}.")
        return float(self.compute(**inputs))
