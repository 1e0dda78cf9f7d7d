"""Density ratio of target and source by a classifier of domains."""

from __future__ import annotations

import numpy as np

FOLDS = 5


def cross_fitted_ratio(source: np.ndarray, target: np.ndarray, seed: int = 0, folds: int = FOLDS) -> np.ndarray:
    r"""Importance weights of source rows from a logistic regression that tells the domains apart.

    \[w(x) = \frac{n_s}{n_t}\,\frac{p(t \mid x)}{p(s \mid x)}\]

    Each row is weighed by a classifier that did not see it: one that has learnt its rows by heart would call every
    source row source. Features are standardised; the regression is L2-regularised.

    Args:
        source, target: (n, d) and (m, d) features.
        seed: of the folds.
        folds: how many; fewer where a domain has fewer rows.

    Returns:
        (n,) weights.

    Raises:
        ValueError: fewer than two rows in a domain.

    Paper: Bickel, Brückner and Scheffer, Discriminative Learning for Differing Training and Test Distributions,
    ICML 2007.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(folds, len(source), len(target))
    if folds < 2:
        raise ValueError("A density ratio needs at least two rows of each domain.")
    x = np.concatenate([source, target])
    domain = np.repeat([0, 1], [len(source), len(target)])
    log_odds = np.zeros(len(x))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, domain)
    for train, held_out in splits:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        log_odds[held_out] = classifier.fit(x[train], domain[train]).decision_function(x[held_out])
    return len(source) / len(target) * np.exp(np.clip(log_odds[: len(source)], -30, 30))
