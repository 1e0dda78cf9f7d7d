"""Base class of transferability scores: how well a frozen checkpoint suits a labelled task."""

from __future__ import annotations

from ..named_score import NamedScore
from .labelled_features import LabelledFeatures

REMEDIES = {
    "source_probabilities": "pass source_probabilities, what the checkpoint's own head predicts of the rows",
    "source_features": "pass source_features, those of rows of the domain to come from",
}


class TransferabilityScore(NamedScore):
    """A score of a checkpoint from its frozen features of labelled rows, better when it is larger.

    A subclass writes `compute`, whose arguments name what it reads of `LabelledFeatures`: `features`, `classes`,
    `source_probabilities`, `source_features`, `seed`.

    Example:
        >>> class Spread(TransferabilityScore):
        ...     name = "spread"
        ...
        ...     def compute(self, features):
        ...         return features.var()
        >>> Spread().score(LabelledFeatures([[0.0], [1.0], [0.0], [1.0]], ["up", "up", "down", "down"]))
        0.25
    """

    remedies = REMEDIES

    def score(self, rows: LabelledFeatures) -> float:
        """The score of these rows.

        Raises:
            ValueError: they lack an input that the score reads; the message says which, and how to pass it.
        """
        return super().score(rows)
