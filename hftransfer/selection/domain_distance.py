"""Distance of two domains by how well a classifier tells their features apart: the proxy A-distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..embeddings.feature_arrays import domain_matrices
from ..embeddings.instances.domain_classifier import cross_fitted_log_odds

ROWS = 2000  # of a domain, at most: more change the distance by less than it is understood
HARDLY_DIFFERENT = 0.3
FAR_APART = 1.9


def proxy_a_distance(source_features: ArrayLike, target_features: ArrayLike, seed: int = 0) -> float:
    r"""Proxy A-distance: how well a linear classifier tells rows of two domains apart.

    \[2\,(1 - 2\varepsilon)\]

    ε is the classifier's error on rows that it did not see, the mean of its errors on both domains: 0.5 where they
    cannot be told apart. The classifier is an L2-regularised logistic regression on standardised features, in which
    both domains weigh the same, fitted in five folds on at most 2,000 rows of each.

    It says how much the inputs differ, as this model sees them; not how much worse the model is on the target. A
    difference that has nothing to do with the task counts as any other.

    Args:
        source_features, target_features: (n, d) and (m, d), such as what the final layer of a pretrained model sees.
        seed: of the folds, and of the rows that are taken of larger sets.

    Returns:
        Between 0 (cannot be told apart) and 2 (told apart without error); less than by chance is 0.

    Raises:
        ValueError: features of different widths, that are not finite, or of fewer than two rows.

    Papers: Ben-David, Blitzer, Crammer and Pereira, Analysis of Representations for Domain Adaptation, NIPS 2006
    (published 2007); Ben-David et al., A Theory of Learning from Different Domains, Machine Learning 2010.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> proxy_a_distance(draw.normal(size=(200, 4)), 9 + draw.normal(size=(300, 4)))
        2.0
    """
    return distance_of(*told_apart(source_features, target_features, seed))


def told_apart(source_features: ArrayLike, target_features: ArrayLike, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of two domains a classifier that did not see them calls by their own domain.

    Args:
        source_features, target_features, seed: as in `proxy_a_distance`, which also says what is raised.

    Returns:
        (n,) and (m,) booleans, of the rows that are looked at.
    """
    draw = np.random.default_rng(seed)
    source, target = (_some_rows(rows, draw) for rows in domain_matrices(source_features, target_features))
    log_odds = cross_fitted_log_odds(source, target, seed, balanced=True)
    return log_odds[: len(source)] <= 0, log_odds[len(source) :] > 0


def distance_of(source_right: np.ndarray, target_right: np.ndarray) -> float:
    """Proxy A-distance of two domains, from what `told_apart` says of their rows.

    Example:
        >>> distance_of(np.array([True, True, False, True]), np.array([True]))
        1.5
    """
    return float(max(0.0, 2 * (source_right.mean() + target_right.mean() - 1)))


def explain_domain_distance(distance: float) -> str:
    """Plain line on what a proxy A-distance means.

    Args:
        distance: between 0 and 2.

    Example:
        >>> explain_domain_distance(0.1)
        'proxy A-distance 0.10 of 2: the model sees inputs of source and target that hardly differ'
    """
    if distance < HARDLY_DIFFERENT:
        meaning = "the model sees inputs of source and target that hardly differ"
    elif distance <= FAR_APART:
        meaning = "the model sees inputs of source and target that differ, and overlap"
    else:
        meaning = "the model sees source and target as hardly overlapping: aligning them will likely destroy structure"
    return f"proxy A-distance {distance:.2f} of 2: {meaning}"


def _some_rows(rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """At most as many rows as are looked at."""
    return rows if len(rows) <= ROWS else rows[np.sort(draw.choice(len(rows), ROWS, replace=False))]
