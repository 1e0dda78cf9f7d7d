"""Gates of the selection rule: what a contender must not have done, each in one sentence where it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .contenders import Contender, row_weights, weighted_frequencies
from .validators.prediction_entropy import entropies


@dataclass(frozen=True)
class Gates:
    """Gates that a contender passes before its scores count; `SelectionRule` explains the thresholds.

    Args:
        source_accuracy_within, source_errors, class_share, nearly_absent, diversity: those of `SelectionRule`.
        class_names: that sentences call the classes by; their numbers when empty.
    """

    source_accuracy_within: float
    source_errors: float
    class_share: float
    nearly_absent: float
    diversity: float
    class_names: Sequence[str] = ()

    def refusal(
        self, contender: Contender, base: Contender, others: Sequence[Contender], believed: np.ndarray | None
    ) -> str | None:
        """The gate that a contender fails, in one sentence; `None` where it passes. Source-only fails none but the
        first.

        Args:
            contender: in question.
            base: plain source-only.
            others: that its source accuracy is compared with.
            believed: (K,) class weights of a label shift that is believed.
        """
        if not contender.finite:
            return "its predictions are not finite"
        if contender.base:
            return None
        return (
            self.source_accuracy(contender, others)
            or self._lost_class(contender, base, believed)
            or self._collapse(contender, base, believed)
        )

    def source_accuracy(self, contender: Contender, others: Sequence[Contender]) -> str | None:
        """That a contender's accuracy on source validation rows is clearly below another's, in one sentence."""
        p = contender.predictions
        weights = row_weights(p.source_labels, contender.weights)
        weights = weights / weights.sum()
        right = p.source_logits.argmax(1) == p.source_labels
        for other in others:
            other_right = other.predictions.source_logits.argmax(1) == p.source_labels
            difference = other_right.astype(float) - right
            below = weights @ difference
            error = np.sqrt((weights**2) @ (difference - below) ** 2)
            if below - self.source_errors * error > self.source_accuracy_within:
                weighted = "" if contender.weights is None else ", weighted by its class weights,"
                return (
                    f"its accuracy on source validation rows{weighted} is {100 * weights @ right:.1f}, that of "
                    f"{other.name} {100 * weights @ other_right:.1f}"
                )
        return None

    def _expected(self, contender: Contender, believed: np.ndarray | None) -> list[np.ndarray]:
        """(K,) class frequencies that are believed of the target: by the estimate, by the contender's weights."""
        labels, classes = contender.predictions.source_labels, contender.predictions.source_logits.shape[1]
        weights = [w for w in (believed, contender.weights) if w is not None]
        return [weighted_frequencies(labels, classes, w) for w in weights]

    def _lost_class(self, contender: Contender, base: Contender, believed: np.ndarray | None) -> str | None:
        rows, classes = base.predictions.target_logits.shape
        share, base_share = (
            np.bincount(c.predictions.target_logits.argmax(1), minlength=classes) / rows for c in (contender, base)
        )
        lost = (share == 0) & (base_share >= self.class_share)
        for frequencies in self._expected(contender, believed):
            lost &= frequencies > self.nearly_absent / classes
        return None if not lost.any() else lost_class_sentence(lost, base_share, base.name, self.class_names)

    def _collapse(self, contender: Contender, base: Contender, believed: np.ndarray | None) -> str | None:
        spread, base_spread = (
            float(entropies(c.calibrated().target_probabilities.mean(0))) for c in (contender, base)
        )
        expected = min([base_spread, *(float(entropies(f)) for f in self._expected(contender, believed))])
        if spread >= self.diversity * expected:
            return None
        return collapse_sentence(spread, base_spread, base.predictions.target_logits.shape[1], base.name)


def lost_class_sentence(lost: np.ndarray, base_share: np.ndarray, base: str, class_names: Sequence[str] = ()) -> str:
    """Sentence on the first class that a model has lost.

    Args:
        lost: (K,) which classes it never predicts.
        base_share: (K,) shares of target rows that the model to compare with predicts.
        base: its name.
        class_names: their numbers when empty.

    Example:
        >>> lost_class_sentence(np.array([False, True]), np.array([0.5, 0.5]), "source-only", ["down", "up"])
        "it never predicts 'up', which source-only predicts on 50.0 % of target rows"
    """
    k = int(lost.argmax())
    name = repr(class_names[k]) if class_names else f"class {k}"
    return f"it never predicts {name}, which {base} predicts on {100 * base_share[k]:.1f} % of target rows"


def collapse_sentence(spread: float, base_spread: float, classes: int, base: str) -> str:
    """Sentence on a collapse.

    Args:
        spread, base_spread: entropy of the mean prediction of the model and of the one to compare with.
        classes: K.
        base: name of the latter.

    Example:
        >>> collapse_sentence(0.1, 0.69, 2, "source-only")
        'its predictions have collapsed: their diversity is 0.14, that of source-only 1.00'
    """
    scale = np.log(max(2, classes))
    return (
        f"its predictions have collapsed: their diversity is {spread / scale:.2f}, that of {base} "
        f"{base_spread / scale:.2f}"
    )
