"""Accuracy on the target without its labels: several estimates, their average, and an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .calibration import calibrated, fit_temperature
from .energy_distance import EnergyDistance
from .model_predictions import Predictions
from .validators.prediction_entropy import entropies

MIDDLE = (0.1, 0.9)  # quantiles of the interval
WIDEST = 0.25  # an interval that is wider tells nothing
SMOOTHING = 0.01  # of the transport's dual, in units of probability
STEP = 0.05  # of log temperature, for derivatives
FARTHEST = 0.5  # that a resample moves the log temperature
MOST_ROWS, DRAWS = 1000, 100  # of each domain, and divisions of them, for the gap between predictions


@dataclass(frozen=True)
class AccuracyEstimate:
    """An estimate of the accuracy on the target.

    Args:
        value: between 0 and 1.
        low, high: 80 % interval.
        known: False where it is too wide to tell.
        reason: why not, in one sentence; empty where known.

    Example:
        >>> print(AccuracyEstimate(0.781, 0.742, 0.823, True, ""))
        0.78 (0.74 to 0.82)
    """

    value: float
    low: float
    high: float
    known: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})" if self.known else f"cannot tell: {self.reason}"


def transport_potentials(probabilities: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    r"""Dual of the transport of predictions onto class frequencies: (K,) prices of the classes.

    \[\min_v\ \sum_k \pi_k v_k + \frac1m\sum_i \max_k\,(p_{ik} - v_k)\]

    The maximum is smoothed. At the minimum this is `COT`, without POT.

    Args:
        probabilities: (m, K).
        frequencies: (K,), π.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    def dual(v: np.ndarray) -> tuple[float, np.ndarray]:
        z = (probabilities - v) / SMOOTHING
        top = logsumexp(z, axis=1)
        share = np.exp(z - top[:, None]).mean(0)
        return float(frequencies @ v + SMOOTHING * top.mean()), frequencies - share

    v = minimize(dual, np.zeros(len(frequencies)), jac=True, method="L-BFGS-B").x
    return v - v.mean()


class TargetAccuracy:
    """Estimates of the accuracy on the target, for any weighting of the rows.

    What does not depend on a row's weight is computed once, so that resamples cost little.

    Args:
        predictions, weights, members: those of `estimate_accuracy`.
    """

    def __init__(
        self,
        predictions: Predictions,
        weights: np.ndarray | None = None,
        members: Sequence[np.ndarray] | None = None,
    ):
        labels, classes = predictions.source_labels, predictions.source_logits.shape[1]
        weights = np.ones(classes) if weights is None else np.asarray(weights, dtype=np.float64)
        if weights.shape != (classes,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(f"weights must be {classes} finite numbers, one a class and none below 0.")
        self.row_weights = weights[labels]
        if not self.row_weights.sum() > 0:
            raise ValueError("weights are 0 for every class that source validation rows have.")
        self.onehot = np.eye(classes)[labels]
        self.right = predictions.source_logits.argmax(1) == labels
        temperature = fit_temperature(predictions.source_logits, labels, self.row_weights)
        fitted = not self.right.all()

        def at(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            warmth = temperature * np.exp(shift)
            source = calibrated(predictions.source_logits, warmth)
            target = calibrated(predictions.target_logits, warmth)
            return source, target, -np.log(np.maximum(source[np.arange(len(labels)), labels], 1e-12))

        (source, target, loss), (_, cooler, loss_cooler), (_, warmer, loss_warmer) = at(0), at(-STEP), at(STEP)
        slope = (loss_warmer - loss_cooler) / (2 * STEP) * fitted
        self.slope = slope - np.average(slope, weights=self.row_weights)  # 0 where the temperature was fitted
        self.curvature = (loss_warmer - 2 * loss + loss_cooler) / STEP**2
        self.source_confidence, self.target_confidence = source.max(1), target.max(1)
        self.confidence_slope = (warmer.max(1) - cooler.max(1)) / (2 * STEP)
        self.certainty = -entropies(source)
        self.order = np.argsort(self.certainty)
        self.source_probabilities, self.target_probabilities = source, target
        self.target_certainty = -entropies(target)
        self.prices = transport_potentials(target, self.frequencies(self.row_weights))
        self.transported = (target - self.prices).max(1)
        self.agreement = None
        if members is not None and len(members):
            chosen = predictions.target_logits.argmax(1)
            for member in members:
                if np.shape(member) != target.shape:
                    raise ValueError(f"A member has shape {np.shape(member)} where the target has {target.shape}.")
            self.agreement = np.mean([np.asarray(p)[np.arange(len(chosen)), chosen] for p in members], axis=0)

    def unexplained_gap(self, seed: int = 0) -> float:
        r"""Gap between predictions that class weights do not explain, as a share of rows.

        \[\sqrt{\max(0,\ D_w - D_0)}\]

        with \(D_w\) the energy distance of calibrated predictions, source rows weighted, and \(D_0\) what chance
        shows. Moving a share s of the rows from one certain prediction to another makes a distance near s².
        """
        draw = np.random.default_rng(seed)
        rows, target_rows = (
            draw.permutation(len(p))[:MOST_ROWS] for p in (self.source_probabilities, self.target_probabilities)
        )
        weights = self.row_weights[rows]
        if not weights.sum() > 0:
            return 0.0
        gap = EnergyDistance(self.source_probabilities[rows], self.target_probabilities[target_rows])
        return float(np.sqrt(max(0.0, gap(weights) - gap.by_chance(DRAWS, seed, weights=weights))))

    def frequencies(self, source_weights: np.ndarray) -> np.ndarray:
        """(K,) class frequencies of weighted source rows."""
        return source_weights @ self.onehot / source_weights.sum()

    def __call__(self, source_counts: np.ndarray | None = None, target_counts: np.ndarray | None = None) -> dict:
        """Estimates by name; (n,) and (m,) counts say how often a row is there, once when absent."""
        rows = self.row_weights if source_counts is None else self.row_weights * source_counts
        if not rows.sum() > 0:
            rows = self.row_weights
        rows = rows / rows.sum()
        target_rows = np.ones(len(self.target_confidence)) if target_counts is None else target_counts
        target_rows = target_rows / target_rows.sum()
        accuracy = rows @ self.right
        moved = -(rows @ self.slope) / max(rows @ self.curvature, 1e-6)
        moved = float(np.clip(moved, -FARTHEST, FARTHEST))
        confidence = target_rows @ self.target_confidence
        surest = np.searchsorted(np.cumsum(rows[self.order]), 1 - accuracy + 1e-9, side="right")
        threshold = self.certainty[self.order[surest]] if surest < len(rows) else np.inf
        estimates = {
            "calibrated confidence": confidence + moved * (target_rows @ self.confidence_slope),
            "difference of confidences": accuracy + confidence - rows @ self.source_confidence,
            "thresholded confidence": target_rows @ (self.target_certainty >= threshold),
            "transported confidence": self.frequencies(rows) @ self.prices
            + target_rows @ self.transported
            + moved * (target_rows @ self.confidence_slope),
        }
        if self.agreement is not None:
            estimates["agreement with members"] = target_rows @ self.agreement
        return {name: float(np.clip(value, 0, 1)) for name, value in estimates.items()}


def estimate_accuracy(
    predictions: Predictions,
    weights: np.ndarray | None = None,
    members: Sequence[np.ndarray] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> AccuracyEstimate:
    """Accuracy on the target without its labels, with an 80 % interval.

    The average of several estimates: the confidence of calibrated predictions; the source's accuracy and the
    difference of confidences (Guillory et al. 2021); average thresholded confidence (`ATC`); confidence optimal
    transport (`COT`); and, with members, how probable other runs hold what the model predicts, a soft form of their
    agreement (Jiang et al. 2022). The interval is the middle 80 % of all of them over resampled rows, so that it also
    carries how far they differ.

    All assume that rows of equal predictions are right equally often in both domains, and are too high where inputs
    differ. So where predictions on the domains differ by more than chance and class weights explain
    (`TargetAccuracy.unexplained_gap`, s), the interval reaches lower by s, and the value is lower by half of it. An
    interval of more than 25 points says "cannot tell". A shift of labels given inputs that leaves predictions as they
    are cannot be seen without labels, nor can one that looks like other class frequencies.

    Args:
        predictions: of the model whose accuracy is asked for; source validation and target rows that nothing was
            fitted to.
        weights: (K,), target over source class frequencies of a label shift that is believed, whether the model was
            corrected for it or not. Source rows count by the weight of their class.
        members: (m, K) calibrated probabilities of independent runs on the same target rows, corrected where the model
            is.
        resamples: how often rows are drawn anew; 0 leaves the interval at the spread of the estimates.
        seed: of the draws.

    Raises:
        ValueError: weights or members that do not fit the predictions.

    Papers: Guillory et al., Predicting with Confidence on Unseen Distributions, ICCV 2021; Garg et al., ICLR 2022;
    Lu et al., NeurIPS 2023; Jiang et al., Assessing Generalization of SGD via Disagreement, ICLR 2022.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> labels = draw.integers(2, size=1000)
        >>> logits = 2 * np.eye(2)[labels] + draw.normal(size=(1000, 2))
        >>> estimate = estimate_accuracy(Predictions(logits[:500], labels[:500], logits[500:]))
        >>> bool(estimate.low < (logits[500:].argmax(1) == labels[500:]).mean() < estimate.high)
        True
    """
    accuracy = TargetAccuracy(predictions, weights, members)
    gap = accuracy.unexplained_gap(seed)
    single = np.array(list(accuracy().values()))
    draw = np.random.default_rng(seed)
    n, m = len(predictions.source_logits), len(predictions.target_logits)
    drawn = np.array([single])
    if resamples:
        counts = ([np.bincount(draw.integers(r, size=r), minlength=r) for r in (n, m)] for _ in range(resamples))
        drawn = np.array([list(accuracy(*rows).values()) for rows in counts])
        drawn = draw.binomial(m, drawn) / m  # whether a row is right is drawn too
    low, high = np.quantile(drawn, MIDDLE)
    value = float(np.clip(single.mean() - gap / 2, 0, 1))
    low, high = float(np.clip(min(low - gap, value), 0, 1)), float(max(high, value))
    reason = ""
    if high - low > WIDEST:
        why = (
            "predictions on the target differ from those on the source in a way that class frequencies do not explain"
            if gap > high - low - gap
            else "the single estimates and resampled rows differ"
        )
        reason = f"{why}, and the accuracy may be anything from {low:.2f} to {high:.2f}."
    return AccuracyEstimate(value, low, high, not reason, reason)
