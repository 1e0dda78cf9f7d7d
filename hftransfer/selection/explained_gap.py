"""Explained gap: the test of whether class weights are to be believed, by the energy distance of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibration import calibrated, fit_temperature
from .energy_distance import EnergyDistance
from .model_predictions import Predictions

EXPLAINED, ABOVE_CHANCE, LEFT = 0.5, 1.75, 2.0  # the last two in gaps that chance shows
MOST_ROWS = 2000  # of each domain that the test looks at
ROWS_PER_CLASS = 5.0  # source rows, that the test needs; as many as Pearson's test asks for in a cell


@dataclass(frozen=True, kw_only=True)
class ExplainedGap:
    """A gap between predictions on source validation rows and on the target, and how much of it class weights explain.

    Args:
        gap: energy distance of calibrated predictions, source validation and target.
        gap_left: the same, source rows weighted.
        gap_by_chance: what two sets of these sizes show where nothing differs.
        rows_per_class: source validation rows by class on average, as many as the weighted ones are worth:
            (Σw)² / (K Σw²). Where they are few, class weights explain any gap.
    """

    gap: float
    gap_left: float
    gap_by_chance: float
    rows_per_class: float

    @property
    def enough_rows(self) -> bool:
        """Whether there are source validation rows enough for the test to mean anything."""
        return self.rows_per_class >= ROWS_PER_CLASS

    @property
    def explained(self) -> float:
        """Share of the gap that the weights explain, between 0 and 1."""
        return float(np.clip(1 - self.gap_left / self.gap, 0, 1)) if self.gap > 0 else 0.0

    @property
    def above_chance(self) -> bool:
        """Whether the gap is clearly above chance."""
        return self.gap >= ABOVE_CHANCE * self.gap_by_chance

    @property
    def believed(self) -> bool:
        """Whether the gap is clearly above chance, the weights explain most of it, and what is left is near chance.

        The last tells a shift of inputs towards one class, which reweighting explains in large part but not to the
        end. With too few rows nothing is believed."""
        explained = self.explained >= EXPLAINED and self.gap_left <= LEFT * self.gap_by_chance
        return self.enough_rows and self.above_chance and explained

    def __str__(self) -> str:
        verdict = "believed" if self.believed else "not believed"
        if not self.enough_rows:
            return f"label shift {verdict}: {self.few_rows}"
        return (
            f"label shift {verdict}: it explains {100 * self.explained:.0f} % of a gap that is "
            f"{self.gap / max(self.gap_by_chance, 1e-12):.1f} times what chance shows"
        )

    @property
    def few_rows(self) -> str:
        """Why the test cannot tell, where `enough_rows` is false."""
        return (
            f"weighted, the source validation rows are worth {self.rows_per_class:.1f} a class, and the test needs "
            f"{ROWS_PER_CLASS:g}"
        )


def effective_rows_per_class(weights: np.ndarray, labels: np.ndarray) -> float:
    """Rows by class on average that rows weighted by their class are worth: (Σw)² / (K Σw²).

    Args:
        weights: (K,), of a row of each class.
        labels: (n,) class ids.

    Example:
        >>> effective_rows_per_class(np.array([1.0, 1.0]), np.array([0, 1, 1, 1]))
        2.0
    """
    of_rows = weights[labels]
    return float(of_rows.sum() ** 2 / max(1e-300, (of_rows**2).sum()) / len(weights))


def explain_gap(predictions: Predictions, weights: np.ndarray, seed: int = 0) -> ExplainedGap:
    """Gap between source and target predictions, and how much of it the given class weights explain.

    If only class frequencies differ, whatever a model says is distributed on source rows weighted by target over
    source frequency as it is on the target. The model need not be right, but it must not have been trained to make
    the weighted domains alike: then the test can only refuse.

    Args:
        predictions: of source validation rows and of target rows.
        weights: (K,), target over source frequency, up to a factor.
        seed: of which rows are looked at, and of chance.

    Raises:
        ValueError: weights of another number of classes.

    Example:
        >>> source = 3 * np.eye(2)[[0, 1] * 50]  # half of each class
        >>> target = 3 * np.eye(2)[[0, 1, 1, 1] * 25]
        >>> explain_gap(Predictions(source, [0, 1] * 50, target), np.array([0.5, 1.5])).believed
        True
    """
    labels, weights = predictions.source_labels, np.asarray(weights, dtype=np.float64)
    if weights.shape != predictions.source_logits.shape[1:]:
        raise ValueError(
            f"weights has shape {weights.shape} where predictions have {predictions.source_logits.shape[1]} classes."
        )
    temperature = fit_temperature(predictions.source_logits, labels)
    draw = np.random.default_rng(seed)
    source, target = predictions.source_logits, predictions.target_logits
    source_rows, target_rows = (draw.permutation(len(rows))[:MOST_ROWS] for rows in (source, target))
    gap = EnergyDistance(calibrated(source[source_rows], temperature), calibrated(target[target_rows], temperature))
    return ExplainedGap(
        gap=gap(),
        gap_left=gap(weights[labels[source_rows]]),
        gap_by_chance=gap.by_chance(seed=seed),
        rows_per_class=effective_rows_per_class(weights, labels),
    )
