"""Accuracy from a few labelled rows that were drawn with unequal, known chances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .target_accuracy import MIDDLE, AccuracyEstimate


@dataclass(frozen=True)
class AnsweredScores:
    """Scores of one model on the rows that have an answer; in tagging a row is a sentence.

    Args:
        name: of the model.
        right: (n,) how many of a row's labels it predicts.
        units: (n,) how many labels a row has: 1, or its words.
        loss: (n,) sum of its quadratic scores (Brier 1950): squared distances of probabilities and label.
    """

    name: str
    right: np.ndarray
    units: np.ndarray
    loss: np.ndarray


def answered_scores(
    name: str, log_probabilities: np.ndarray, labels: np.ndarray, row_of: np.ndarray | None = None
) -> AnsweredScores:
    """Scores of a model from its predictions.

    Args:
        name: of the model.
        log_probabilities: (u, K) of all words, or of rows.
        labels: (u,) class ids.
        row_of: (u,) position of the row that each belongs to; the u-th of the u-th when `None`.

    Example:
        >>> answered_scores("model", np.log([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1])).right
        array([1., 0.])
    """
    row_of = np.arange(len(labels)) if row_of is None else row_of
    probabilities = np.exp(log_probabilities)
    right = (probabilities.argmax(1) == labels).astype(float)
    loss = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)
    rows = int(row_of.max()) + 1 if len(row_of) else 0
    sums = (np.bincount(row_of, values, minlength=rows) for values in (right, np.ones(len(labels)), loss))
    return AnsweredScores(name, *sums)


def answer_weights(numbers: np.ndarray, chances: np.ndarray, population: int, asked: int) -> np.ndarray:
    r"""Weights of answers that undo the chances by which their rows were drawn (LURE).

    \[v_m = 1 + \frac{N - M}{N - m}\left(\frac{1}{(N - m + 1)\,q_m} - 1\right)\]

    for the m-th of M draws without replacement from N rows, with chance q given those before. The mean of v·x over
    all draws has the mean of x over all rows as its expectation, whatever the chances depend on; where all rows are
    drawn, every weight is 1. Rows of which half of each draw is at random weigh at most about 2, so that all answers
    together never tell less than the random half alone would.

    Args:
        numbers: (n,) m, from 1; fewer than M where some have no answer.
        chances: (n,) q.
        population: N.
        asked: M.

    Paper: Farquhar, Gal and Rainforth, On Statistical Bias in Active Learning: How and When to Fix It, ICLR 2021.

    Example:
        >>> answer_weights(np.array([1, 2]), np.array([1 / 4, 1 / 3]), population=4, asked=2)  # drawn alike
        array([1., 1.])
    """
    m = np.asarray(numbers, dtype=np.float64)
    if population <= asked:
        return np.ones(len(m))
    return np.asarray(1 + (population - asked) / (population - m) * (1 / ((population - m + 1) * chances) - 1))


def accuracy_of_answers(scores: AnsweredScores, weights: np.ndarray) -> AccuracyEstimate:
    r"""Accuracy by answers with their weights, with an 80 % interval.

    \[\hat a = \frac{\sum_i v_i\,\mathrm{right}_i}{\sum_i v_i\,\mathrm{units}_i}\]

    The interval is Jeffreys' for as many rows alike as the weighted ones are worth, \((\sum v)^2 / \sum v^2\) (Kish
    1965); in tagging, where words of a sentence are right together, for as many words as sentences tell.

    Args:
        scores: of the model.
        weights: (n,), from `answer_weights`.

    Example:
        >>> scores = answered_scores("model", np.log([[0.9, 0.1]] * 8 + [[0.1, 0.9]] * 2), np.zeros(10, int))
        >>> print(accuracy_of_answers(scores, np.ones(10)))
        0.80 (0.61 to 0.92)
    """
    from scipy.stats import beta

    total = weights @ scores.units
    if not total > 0:
        return AccuracyEstimate(0.5, 0.0, 1.0, False, "no answer counts.")
    value = float(weights @ scores.right / total)
    worth = total**2 / (weights**2 @ scores.units)
    if (scores.units != 1).any():
        spread = weights**2 @ (scores.right - value * scores.units) ** 2 / total**2
        sentences = total**2 / (weights**2 @ scores.units**2)
        if spread > 0:
            worth = max(sentences, min(worth, value * (1 - value) / spread))
        elif value in (0.0, 1.0):  # nothing shows how far words go together
            worth = sentences
    low, high = beta.ppf(MIDDLE, value * worth + 0.5, (1 - value) * worth + 0.5)
    return AccuracyEstimate(value, min(float(low), value), max(float(high), value), True, "")
