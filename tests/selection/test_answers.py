"""Accuracy from answers: without bias whatever was asked for, with an interval that holds."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import beta

from hftransfer.selection.answers import accuracy_of_answers, answer_weights, answered_scores
from hftransfer.selection.questions import draw_questions, question_scores

ROWS = 400


@pytest.fixture(scope="module")
def world():
    """Predictions of a model that is right on four rows in five, and surer where it is."""
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=ROWS)
    p = 1 / (1 + np.exp(-1.2 * (2 * labels - 1) - 1.5 * draw.normal(size=ROWS)))
    probabilities = np.stack([1 - p, p], 1)
    return labels, probabilities, question_scores(probabilities, []), draw.normal(size=(ROWS, 8))


def test_weights_undo_the_chances_exactly():
    """All ordered draws of two and three from five rows, each with chances of its own."""
    values, draw = np.array([1.0, 0.0, 3.0, -2.0, 0.5]), np.random.default_rng(3)
    tables = {}

    def chances(left: tuple) -> np.ndarray:
        if left not in tables:
            tables[left] = draw.dirichlet(np.ones(len(left)))
        return tables[left]

    for asked in (2, 3):
        expectation = 0.0
        for order in permutations(range(5), asked):
            left, q = tuple(range(5)), []
            for row in order:
                q.append(chances(left)[left.index(row)])
                left = tuple(other for other in left if other != row)
            weights = answer_weights(np.arange(1, asked + 1), np.array(q), 5, asked)
            expectation += np.prod(q) * (weights * values[list(order)]).mean()
        assert expectation == pytest.approx(values.mean())


def test_rows_that_were_drawn_alike_weigh_one():
    left = 50 - np.arange(20)
    np.testing.assert_allclose(answer_weights(np.arange(1, 21), 1 / left, 50, 20), 1)


def test_all_rows_weigh_one():
    q = np.random.default_rng(0).random(8)
    np.testing.assert_allclose(answer_weights(np.arange(1, 9), q, 8, 8), 1)


@pytest.mark.parametrize("count", [20, 60])
def test_the_estimate_has_no_bias_and_is_no_worse_than_a_random_half(world, count):
    """Chosen rows are the hard ones, on which the plain share of right answers is far too low."""
    labels, probabilities, scores, features = world
    truth = (probabilities.argmax(1) == labels).mean()
    estimates, plain, halves, held = [], [], [], []
    for seed in range(120):
        asked = draw_questions(scores, features, count, seed=seed)
        answered = answered_scores("model", np.log(probabilities[asked.rows]), labels[asked.rows])
        weights = answer_weights(np.arange(1, count + 1), asked.chances, ROWS, count)
        estimate = accuracy_of_answers(answered, weights)
        estimates.append(estimate.value)
        plain.append(answered.right.mean())
        held.append(estimate.low <= truth <= estimate.high)
        half = np.random.default_rng(seed).permutation(ROWS)[: count // 2]
        halves.append((probabilities[half].argmax(1) == labels[half]).mean())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth) < 3 * error + 0.005
    assert np.mean(plain) < truth - 0.02
    assert np.std(estimates) < np.std(halves)
    assert np.mean(held) > 0.75


def test_alike_rows_give_the_usual_share_and_jeffreys_interval():
    right = np.array([1.0] * 30 + [0.0] * 10)
    answered = answered_scores(
        "model", np.log(np.where(right[:, None] > 0, [0.9, 0.1], [0.1, 0.9])), np.zeros(40, int)
    )
    estimate = accuracy_of_answers(answered, np.ones(40))
    assert estimate.value == pytest.approx(0.75)
    np.testing.assert_allclose([estimate.low, estimate.high], beta.ppf([0.1, 0.9], 30.5, 10.5))


def test_scores_of_words_are_summed_by_sentence():
    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    answered = answered_scores("tagger", np.log(p), np.array([0, 0, 1]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(answered.right, [1, 1])
    np.testing.assert_array_equal(answered.units, [2, 1])
    np.testing.assert_allclose(answered.loss, [0.2**2 * 2 + 0.6**2 * 2, 0.3**2 * 2])


def test_words_that_are_right_together_tell_less():
    """Ten sentences of ten words: all or nothing right, or mixed."""
    words = np.repeat(np.arange(10), 10)
    together, mixed = np.repeat(np.arange(10) < 7, 10), np.tile(np.arange(10) < 7, 10)
    widths = []
    for right in (together, mixed):
        p = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        estimate = accuracy_of_answers(answered_scores("t", np.log(p), np.zeros(100, int), words), np.ones(10))
        assert estimate.value == pytest.approx(0.7)
        widths.append(estimate.high - estimate.low)
    assert widths[0] > 2 * widths[1]
