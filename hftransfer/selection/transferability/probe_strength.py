"""Strength of a linear probe's penalty, by cross-validation on the rows that it is fitted on."""

from __future__ import annotations

import numpy as np

from .linear_probe import FOLDS, fit_probe, stratified_folds

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # scikit-learn's C, on features of spread one
MOST_ROWS = 5_000  # that take part: more change the choice little, and cost minutes


def cross_validated_strength(
    features: np.ndarray, classes: np.ndarray, row_weights: np.ndarray | None = None, seed: int = 0
) -> float:
    r"""C of a linear probe on features of spread one, chosen by five-fold cross-validation.

    The loss is the negative log-likelihood of the rows held out. Of all C whose mean loss is within one standard error
    of the least, the smallest is taken, which penalises most: the rule of one standard error. It prefers the simpler
    of models that the rows cannot tell apart, which is also the one that leans least on what only these rows have.

    Args:
        features: (n, d).
        classes: (n,) ids.
        row_weights: (n,) what each row counts; all alike when `None`.
        seed: of the folds, and of the draw of 5,000 rows where there are more.

    Returns:
        One of 1, 10, 100 and 1000; 1 where no class has two rows, so that none can be held out.

    Paper: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(60, 4))
        >>> cross_validated_strength(rows, (rows[:, 0] > 0).astype(int)) in STRENGTHS
        True
    """
    weights = np.ones(len(classes)) if row_weights is None else row_weights
    counted = np.flatnonzero(weights > 0)
    kept = np.sort(np.random.default_rng(seed).permutation(counted)[:MOST_ROWS])
    _, class_of, sizes = np.unique(classes[kept], return_inverse=True, return_counts=True)
    kept = kept[sizes[class_of] > 1]  # the rest would be of a class that the others do not have
    if not len(kept):
        return STRENGTHS[0]
    features, classes, weights = features[kept], classes[kept], weights[kept] / weights[kept].mean()
    losses = {c: _held_out_losses(features, classes, weights, seed, c) for c in STRENGTHS}
    means = {c: float(np.average(loss, weights=weights)) for c, loss in losses.items()}
    best = min(STRENGTHS, key=lambda c: means[c])
    error = np.sqrt(np.square(weights * (losses[best] - means[best])).sum()) / weights.sum()
    return next(c for c in STRENGTHS if means[c] <= means[best] + error)


def _held_out_losses(
    features: np.ndarray, classes: np.ndarray, weights: np.ndarray, seed: int, strength: float
) -> np.ndarray:
    """(n,) negative log-likelihood of each row under a probe that did not see it."""
    fold = stratified_folds(classes, seed, min(FOLDS, len(classes)))
    losses = np.zeros(len(classes))
    for number in range(fold.max() + 1):
        held_out = fold == number
        probe = fit_probe(
            features[~held_out], classes[~held_out], int(classes.max()) + 1, weights[~held_out], strength
        )
        logits = probe.logits(features[held_out])
        logits -= logits.max(1, keepdims=True)
        own = logits[np.arange(len(logits)), classes[held_out]]
        losses[held_out] = np.log(np.exp(logits).sum(1)) - own
    return losses
