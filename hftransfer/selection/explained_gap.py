"""Explained gap: the test of whether class weights are to be believed, by the energy distance of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibration import calibrated, fit_temperature
from .energy_distance import EnergyDistance
from .model_predictions import Predictions

EXPLAINED, ABOVE_CHANCE, LEFT = 0.5, 1.75, 2.0  # the last two in gaps that chance shows
MOST_ROWS = 2000  # of each domain that the test looks at


@dataclass(frozen=True, kw_only=True)
class ExplainedGap:
    """A gap between predictions on source validation rows and on the target, and how much of it class weights explain.

    Args:
        gap: energy distance of calibrated predictions, source validation and target.
        gap_left: the same, source rows weighted.
        gap_by_chance: what two sets of these sizes show where nothing differs.
    """

    gap: float
    gap_left: float
    gap_by_chance: float

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
        end."""
        return self.above_chance and self.explained >= EXPLAINED and self.gap_left <= LEFT * self.gap_by_chance

    def __str__(self) -> str:
        verdict = "believed" if self.believed else "not believed"
        return (
            f"label shift {verdict}: it explains {100 * self.explained:.0f} % of a gap that is "
            f"{self.gap / max(self.gap_by_chance, 1e-12):.1f} times what chance shows"
        )


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
    return ExplainedGap(gap=gap(), gap_left=gap(weights[labels[source_rows]]), gap_by_chance=gap.by_chance(seed=seed))
