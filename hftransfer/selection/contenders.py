"""Contenders of a selection: models, and corrections of models, that may be handed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .calibration import fit_temperature
from .class_frequencies import BOUND, LabelShiftEstimate
from .model_predictions import Predictions

AT_BOUND = (1 + 1e-6) / BOUND


@dataclass
class Contender:
    """One model, or a correction of one, that may be handed over.

    Args:
        name: that the judgement calls it by.
        predictions: logits that include its corrections: the log of calibrated, prior-corrected probabilities where it
            is corrected, its own logits elsewhere. All contenders predict the same rows.
        base: a plain source-only run. The first of them stays unless the evidence for another is clear.
        weights: (K,) target over source class frequencies that it was corrected or trained with; only where they are
            believed.
        reference: an ensemble: shown, and taken as the mean of all, but never handed over.
    """

    name: str
    predictions: Predictions
    base: bool = False
    weights: np.ndarray | None = None
    reference: bool = False

    @property
    def finite(self) -> bool:
        """Whether all its logits are numbers."""
        p = self.predictions
        return bool(np.isfinite(p.source_logits).all() and np.isfinite(p.target_logits).all())

    def calibrated(self) -> Predictions:
        """Its predictions over one temperature, fitted on source validation rows that count by its class weights."""
        p = self.predictions
        temperature = fit_temperature(p.source_logits, p.source_labels, row_weights(p.source_labels, self.weights))
        return replace(p, source_logits=p.source_logits / temperature, target_logits=p.target_logits / temperature)


def row_weights(labels: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
    """(n,) weights of rows by their class; 1 each without class weights, or where these leave no row."""
    if class_weights is None:
        return np.ones(len(labels))
    rows = np.asarray(class_weights, dtype=np.float64)[labels]
    return rows if rows.sum() > 0 else np.ones(len(labels))


def first_base(contenders: Sequence[Contender]) -> Contender:
    """The plain source-only run that others are compared with.

    Raises:
        ValueError: there is none with finite predictions, a name stands twice, or contenders predict other rows.
    """
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two contenders are called {name!r}: give each a name of its own.")
    bases = [contender for contender in contenders if contender.base and not contender.reference and contender.finite]
    if not bases:
        raise ValueError(
            "No source-only run with finite predictions is among the contenders: pass one with base=True."
        )
    expected = bases[0].predictions
    for contender in contenders:
        p = contender.predictions
        same = (
            p.source_logits.shape == expected.source_logits.shape
            and p.target_logits.shape == expected.target_logits.shape
        )
        if not same or (p.source_labels != expected.source_labels).any():
            raise ValueError(
                f"{contender.name} and {bases[0].name} predict different rows: pass predictions of the same ones."
            )
    return bases[0]


def believed_weights(contenders: Sequence[Contender], shift: LabelShiftEstimate | None) -> np.ndarray | None:
    """(K,) class weights of the label shift that is believed; `None` where none is.

    Those of the estimate, or else the mean of those that models were corrected for: weights are there only where an
    estimate of that model's own predictions was believed.
    """
    if shift is not None and shift.believed:
        return np.asarray(shift.weights, dtype=np.float64)
    single = [contender.weights for contender in contenders if contender.weights is not None]
    return np.mean(single, axis=0) if single else None


def weighted_frequencies(labels: np.ndarray, classes: int, class_weights: np.ndarray | None) -> np.ndarray:
    """(K,) class frequencies of rows that count by their class.

    Estimates bound their weights, so that one at the lower bound says: this little or less. Its class counts nothing.
    """
    if class_weights is not None:
        class_weights = np.where(np.asarray(class_weights) > AT_BOUND, class_weights, 0.0)
    rows = row_weights(labels, class_weights)
    return np.bincount(labels, rows, minlength=classes) / rows.sum()


def mean_probabilities(
    contenders: Sequence[Contender], calibrated: dict[str, Predictions], class_weights: np.ndarray | None
) -> np.ndarray:
    """(m, K) mean of calibrated target probabilities, those of plain models corrected for believed class weights."""
    parts = []
    for contender in contenders:
        p = calibrated[contender.name].target_probabilities
        if class_weights is not None and contender.weights is None:
            p = p * class_weights
        parts.append(p / p.sum(1, keepdims=True))
    return np.mean(parts, axis=0)
