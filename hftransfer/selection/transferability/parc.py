"""PARC: pairwise annotation representation comparison."""

from __future__ import annotations

import numpy as np

from .transferability_score import TransferabilityScore

ROWS = 2000  # at most: it ranks all pairs


class PARC(TransferabilityScore):
    r"""PARC, the rank correlation of how different rows are by their features and by their labels.

    \[\mathrm{Spearman}\big(1 - r(f_i, f_j),\ [y_i \ne y_j]\big)_{i<j}\]

    with r Pearson's correlation of two rows of standardised features. Between -1 and 1 (the authors multiply by 100);
    0 where all rows are alike. Of more than 2,000 rows as many are drawn.

    Paper: Bolya, Mittapalli and Hoffman, Scalable Diverse Model Selection for Accessible Transfer Learning,
    NeurIPS 2021.
    """

    name = "parc"
    paper = "Bolya, Mittapalli and Hoffman, Scalable Diverse Model Selection, NeurIPS 2021"

    def compute(self, features: np.ndarray, classes: np.ndarray, seed: int) -> float:
        from scipy.stats import rankdata

        if len(features) > ROWS:
            chosen = np.sort(np.random.default_rng(seed).choice(len(features), ROWS, replace=False))
            features, classes = features[chosen], classes[chosen]
        rows = _unit(_unit(features - features.mean(0), 0, len(features) ** 0.5), 1, centre=True)
        first, second = np.triu_indices(len(rows), 1)
        ranks = rankdata(np.round(1 - (rows @ rows.T)[first, second], 12))
        differ = (classes[first] != classes[second]).astype(np.float64)
        ranks -= ranks.mean()
        differ -= differ.mean()
        scale = np.sqrt((ranks**2).sum() * (differ**2).sum())
        return 0.0 if scale == 0 else (ranks * differ).sum() / scale


def _unit(values: np.ndarray, axis: int, length: float = 1.0, centre: bool = False) -> np.ndarray:
    """Lines along an axis, of the given length; those of no length stay so."""
    if centre:
        values = values - values.mean(axis, keepdims=True)
    norms = np.linalg.norm(values, axis=axis, keepdims=True)
    return length * values / np.where(norms > 0, norms, 1.0)
