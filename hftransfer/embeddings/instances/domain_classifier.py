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
    if min(folds, len(source), len(target)) < 2:
        raise ValueError("A density ratio needs at least two rows of each domain.")
    return ratios_of(cross_fitted_log_odds(source, target, seed, folds), len(source), len(target))[: len(source)]


def ratios_of(log_odds: np.ndarray, source_rows: int, target_rows: int) -> np.ndarray:
    """Density ratios of target and source from log-odds of target against source, (rows,) -> (rows,).

    Args:
        log_odds: from `cross_fitted_log_odds`, not balanced.
        source_rows, target_rows: how many rows of each domain the classifier saw.
    """
    return source_rows / target_rows * np.exp(np.clip(log_odds, -30, 30))


def cross_fitted_log_odds(
    source: np.ndarray, target: np.ndarray, seed: int = 0, folds: int = FOLDS, balanced: bool = False
) -> np.ndarray:
    """Log-odds of target against source, each row by a logistic regression that did not see it.

    Args:
        source, target: (n, d) and (m, d) features; they are standardised.
        seed: of the folds.
        folds: how many; fewer where a domain has fewer rows, of which there are two at least.
        balanced: both domains weigh the same, whatever their sizes.

    Returns:
        (n + m,) log-odds, the source's rows first.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([source, target])
    domain = np.repeat([0, 1], [len(source), len(target)])
    log_odds = np.zeros(len(x))
    folds = min(folds, len(source), len(target))
    for train, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, domain):
        regression = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced" if balanced else None)
        classifier = make_pipeline(StandardScaler(), regression)
        log_odds[held_out] = classifier.fit(x[train], domain[train]).decision_function(x[held_out])
    return log_odds
