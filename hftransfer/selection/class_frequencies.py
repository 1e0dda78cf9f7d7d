"""Label shift after training: an estimate of the target's class frequencies, and a test of whether to believe it.

In NumPy, for a trained model. `objectives/label_shift_weights.py` has `mlls` and `bbse` in torch, for training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibration import calibrated, fit_temperature
from .energy_distance import EnergyDistance
from .explained_gap import MOST_ROWS, ExplainedGap, effective_rows_per_class
from .model_predictions import Predictions

EM_STEPS, EM_TOLERANCE = 2000, 1e-9
BOUND = 10.0  # largest class weight, and the inverse of the smallest
METHODS = ("mlls", "bbse")


def mlls(probabilities: np.ndarray, source_prior: np.ndarray) -> np.ndarray:
    r"""Maximum-likelihood label shift: class frequencies of the target by expectation maximisation.

    \[\pi_k \leftarrow \frac1m \sum_i \frac{\pi_k\,p_{ik}/p_S(k)}{\sum_l \pi_l\,p_{il}/p_S(l)}\]

    Args:
        probabilities: (m, K), calibrated predictions on the target.
        source_prior: (K,), what the model predicts on average on rows of the source.

    Returns:
        (K,) frequencies that sum to 1.

    Paper: Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori Probabilities,
    Neural Computation 2002; Alexandari, Kundaje and Shrikumar, ICML 2020 (why to calibrate first).
    """
    return resampled_mlls(probabilities, source_prior[None], np.ones((1, len(probabilities))))[0]


def resampled_mlls(probabilities: np.ndarray, source_priors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`mlls` of several samples of the same rows, all at once.

    Args:
        probabilities: (m, K), of the target's rows.
        source_priors: (R, K), one a sample.
        counts: (R, m), how often a sample has each row.

    Returns:
        (R, K) frequencies, each of which sums to 1.
    """
    found = source_priors / source_priors.sum(1, keepdims=True)
    samples = np.arange(len(found))  # those that still move
    priors, rows = np.maximum(source_priors, 1e-12), counts.sum(1, keepdims=True)
    for _ in range(EM_STEPS):
        ratios = found[samples] / priors
        following = ratios * (counts / np.maximum(ratios @ probabilities.T, 1e-300) @ probabilities) / rows
        moves = np.abs(following - found[samples]).max(1) >= EM_TOLERANCE
        found[samples] = following
        if not moves.all():
            samples, priors, counts, rows = (values[moves] for values in (samples, priors, counts, rows))
            if not len(samples):
                break
    return found


def bbse(
    source_probabilities: np.ndarray,
    source_labels: np.ndarray,
    target_probabilities: np.ndarray,
    strength: float = 0.1,
) -> np.ndarray:
    r"""Black-box shift estimation, regularised towards no shift: class frequencies of the target.

    \[\min_{w \ge 0} \lVert C w - q \rVert^2 + \lambda \lVert w - 1 \rVert^2 / K\]

    with C the joint of predicted and true class on source validation rows, q the target's mean prediction. Few rows of
    a class make C uncertain, and without λ the estimate follows its noise.

    Args:
        source_probabilities, source_labels: (n, K) and (n,).
        target_probabilities: (m, K).
        strength: λ, relative to the mean of C's squared singular values.

    Returns:
        (K,) frequencies that sum to 1.

    Paper: Lipton, Wang and Smola, Detecting and Correcting for Label Shift with Black Box Predictors, ICML 2018;
    Azizzadenesheli et al., Regularized Learning for Domain Adaptation under Label Shifts, ICLR 2019.
    """
    from scipy.optimize import nnls

    classes = source_probabilities.shape[1]
    onehot = np.eye(classes)[source_labels]
    confusion = source_probabilities.T @ onehot / len(onehot)
    prior = onehot.mean(0)
    scale = np.sqrt(strength * (np.linalg.norm(confusion) ** 2) / classes)
    system = np.concatenate([confusion, scale * np.eye(classes)])
    wanted = np.concatenate([target_probabilities.mean(0), np.full(classes, scale)])
    weights, _ = nnls(system, wanted)
    frequencies = weights * prior
    total = frequencies.sum()
    return frequencies / total if total > 0 else prior


@dataclass(frozen=True, kw_only=True)
class LabelShiftEstimate(ExplainedGap):
    """An estimate of class frequencies, and the evidence for it.

    Args:
        source_frequencies, target_frequencies: (K,), of the source's validation rows and as estimated for the target.
        intervals: (K, 2), the middle 80 % of the estimates from resampled rows.
        temperature: that the predictions were calibrated with.
        gap, gap_left, gap_by_chance, rows_per_class: as in `ExplainedGap`, source rows weighted by the estimate.
        weights: (K,), what a class's probability is multiplied by: target over source frequency.
    """

    source_frequencies: np.ndarray
    target_frequencies: np.ndarray
    intervals: np.ndarray
    temperature: float
    weights: np.ndarray

    def corrected(self, logits: np.ndarray) -> np.ndarray:
        """(…, K) logits -> (…, K) probabilities, calibrated and corrected for the estimate."""
        joint = calibrated(logits, self.temperature) * self.weights
        return joint / joint.sum(-1, keepdims=True)

    def bias(self) -> np.ndarray:
        """(K,), what to add to the calibrated head's bias: log of the weights."""
        return np.log(self.weights)


def estimate_label_shift(
    predictions: Predictions, method: str = "mlls", resamples: int = 100, seed: int = 0
) -> LabelShiftEstimate:
    """Class frequencies of the target from the predictions of a trained model, with a test of whether to believe them.

    The predictions are calibrated by one temperature on source validation rows. The test compares predictions on
    these rows with those on the target by their energy distance: label shift, and nothing else, is a gap that goes
    away when source rows are weighted by the estimate. A gap within chance needs no correction, and one that the
    estimate does not explain is another kind of shift. A small shift of inputs that acts on predictions as more rows
    of a class would cannot be told from one of labels: no test without labels can.

    Args:
        predictions: of source validation rows and of target rows that nothing was fitted to.
        method: `"mlls"` or `"bbse"`.
        resamples: how often rows are drawn anew for the intervals; 0 leaves them at the estimate.
        seed: of the draws.

    Raises:
        ValueError: an unknown method.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> def rows(frequencies, n):
        ...     labels = draw.choice(2, n, p=frequencies)
        ...     return labels, 2 * np.eye(2)[labels] + draw.normal(size=(n, 2))
        >>> (labels, source), (_, target) = rows([0.5, 0.5], 500), rows([0.2, 0.8], 500)
        >>> estimate = estimate_label_shift(Predictions(source, labels, target))
        >>> bool(estimate.believed), estimate.target_frequencies.round(1)
        (True, array([0.2, 0.8]))
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}.")
    labels = predictions.source_labels
    temperature = fit_temperature(predictions.source_logits, labels)
    source = calibrated(predictions.source_logits, temperature)
    target = calibrated(predictions.target_logits, temperature)
    draw = np.random.default_rng(seed)

    samples = [(np.arange(len(source)), np.arange(len(target)))]  # first all rows, then draws from them
    samples += [
        (draw.integers(len(source), size=len(source)), draw.integers(len(target), size=len(target)))
        for _ in range(resamples)
    ]
    source_frequencies = np.bincount(labels, minlength=source.shape[1]) / len(labels)
    if method == "bbse":
        reference = source_frequencies
        found = np.stack([bbse(source[s], labels[s], target[t]) for s, t in samples])
    else:
        reference = source.mean(0)
        counts = np.stack([np.bincount(t, minlength=len(target)) for _, t in samples])
        found = resampled_mlls(target, np.stack([source[s].mean(0) for s, _ in samples]), counts)
    estimate, drawn = found[0], found[1:] if resamples else found
    weights = np.clip(estimate / np.maximum(reference, 1e-12), 1 / BOUND, BOUND)
    source_rows, target_rows = (draw.permutation(len(rows))[:MOST_ROWS] for rows in (source, target))
    gap = EnergyDistance(source[source_rows], target[target_rows])
    return LabelShiftEstimate(
        source_frequencies=source_frequencies,
        target_frequencies=estimate,
        intervals=np.quantile(drawn, [0.1, 0.9], axis=0).T,
        temperature=temperature,
        gap=gap(),
        gap_left=gap(weights[labels[source_rows]]),
        gap_by_chance=gap.by_chance(seed=seed),
        rows_per_class=effective_rows_per_class(weights, labels),
        weights=weights,
    )
