"""Active learning: which unlabelled rows to ask for, drawn so that the chance of each is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .validators.prediction_entropy import entropies

UNIFORM = 0.5  # chance of a draw to be one among all rows alike
POOL = 4  # times as many rows as are asked for, those of the highest score, that the other draws come from


@dataclass(frozen=True)
class Questions:
    """Rows to ask for, in the order in which they were drawn.

    Args:
        rows: (k,) numbers among the rows that were drawn from.
        chances: (k,) the probability with which each draw took its row, given those before it.
    """

    rows: np.ndarray
    chances: np.ndarray


def question_scores(mean: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    r"""Scores of rows by how much an answer is worth: uncertainty of the mean, and disagreement of the members.

    \[\frac{H(\bar p) + \mathrm{JS}(p_1, \dots, p_C)}{\log K},\qquad
      \mathrm{JS} = H\!\left(\tfrac1C\sum_c p_c\right) - \tfrac1C\sum_c H(p_c)\]

    Args:
        mean: (m, K) probabilities, the best that there are.
        members: (m, K) probabilities of each model.

    Returns:
        (m,), between 0 and 2.

    Paper: Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011.

    Example:
        >>> sure, torn = [1.0, 0.0], [0.5, 0.5]
        >>> question_scores(np.array([sure, torn]), [np.array([sure, [1.0, 0.0]]), np.array([sure, [0.0, 1.0]])])
        array([0., 2.])
    """
    scale = np.log(max(2, mean.shape[1]))
    disagreement = np.zeros(len(mean))
    if members:
        disagreement = entropies(np.mean(members, axis=0)) - np.mean([entropies(p) for p in members], axis=0)
    return np.asarray(np.maximum(entropies(mean) + np.maximum(disagreement, 0.0), 0.0) / scale)


def draw_questions(
    scores: np.ndarray,
    features: np.ndarray | None,
    count: int,
    asked: Sequence[int] | np.ndarray = (),
    seed: int = 0,
) -> Questions:
    r"""Rows to ask for: half of the draws at random, half by score and spread over the features.

    Row i of the n that are left is drawn with probability

    \[q_i = \frac{1}{2n} + \frac{s_i D_i^2}{2\sum_j s_j D_j^2}\]

    with the score s, and D the distance to the nearest row that was asked for before (k-means++); the second part is
    over the 4·count rows of the highest score. Since every row has a chance, and it is known, all answers together
    tell the accuracy without bias (`answer_weights`): none is spent on that alone.

    Args:
        scores: (m,), not negative.
        features: (m, d); without them D is 1.
        count: how many rows.
        asked: rows that were asked for before.
        seed: of the draws.

    Raises:
        ValueError: fewer rows are left than are asked for.

    Paper: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007.

    Example:
        >>> questions = draw_questions(np.array([0.0, 0.0, 0.9, 0.8]), None, 2)
        >>> len(set(questions.rows.tolist())), bool((questions.chances >= 0.125).all())
        (2, True)
    """
    left = np.ones(len(scores), dtype=bool)
    left[np.asarray(asked, dtype=int)] = False
    if count > left.sum():
        raise ValueError(f"{count} rows are asked for, and {int(left.sum())} are left to ask for.")
    z = _standardized(features)
    distances = np.full(len(scores), np.inf)  # squared, to the nearest row that was asked for
    for before in np.flatnonzero(~left):
        _bring_nearer(distances, z, int(before))
    draw = np.random.default_rng(seed)
    rows, chances = [], []
    for _ in range(count):
        remaining = np.flatnonzero(left)
        pool = np.argsort(-scores[remaining], kind="stable")[: POOL * count]
        spread = distances[remaining[pool]]
        aim = scores[remaining[pool]] * np.where(np.isfinite(spread), spread, 1.0)
        aim = aim / aim.sum() if aim.sum() > 0 else np.full(len(pool), 1 / len(pool))
        chance = np.full(len(remaining), UNIFORM / len(remaining))
        chance[pool] += (1 - UNIFORM) * aim
        at = int(draw.choice(len(remaining), p=chance / chance.sum()))
        row = int(remaining[at])
        rows.append(row)
        chances.append(float(chance[at]))
        left[row] = False
        _bring_nearer(distances, z, row)
    return Questions(np.array(rows, dtype=int), np.array(chances))


def _standardized(features: np.ndarray | None) -> np.ndarray | None:
    if features is None:
        return None
    z = np.asarray(features, dtype=np.float64)
    return np.asarray((z - z.mean(0)) / np.maximum(z.std(0), 1e-12))


def _bring_nearer(distances: np.ndarray, z: np.ndarray | None, row: int) -> None:
    if z is not None:
        np.minimum(distances, ((z - z[row]) ** 2).sum(1), out=distances)
