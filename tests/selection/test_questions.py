"""Questions: scores by their formula, known chances, and where draws go."""

import numpy as np
import pytest

from hftransfer.selection.questions import POOL, draw_questions, question_scores


def probabilities(rows: int, seed: int, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), rows)


def test_scores_are_entropy_and_disagreement():
    mean, members = probabilities(6, 0), [probabilities(6, seed) for seed in (1, 2, 3)]
    expected = []
    for i in range(6):
        entropy = [-sum(p * np.log(p) for p in member[i]) for member in members]
        joint = [sum(member[i][k] for member in members) / 3 for k in range(3)]
        disagreement = -sum(p * np.log(p) for p in joint) - sum(entropy) / 3
        expected.append((-sum(p * np.log(p) for p in mean[i]) + disagreement) / np.log(3))
    np.testing.assert_allclose(question_scores(mean, members), expected)


def test_one_member_does_not_disagree_with_itself():
    mean = probabilities(5, 0)
    np.testing.assert_allclose(question_scores(mean, [mean]), question_scores(mean, []))


def test_every_row_has_a_chance_and_none_is_drawn_twice():
    draw = np.random.default_rng(0)
    scores, features, asked = draw.random(60), draw.normal(size=(60, 4)), [3, 5, 7]
    questions = draw_questions(scores, features, 57, asked)
    assert sorted([*questions.rows, *asked]) == list(range(60))
    left = 57 - np.arange(57)
    assert (questions.chances >= 0.5 / left - 1e-12).all()
    assert (questions.chances <= 1).all()


def test_the_stored_chance_is_that_of_the_draw():
    """The first row drawn, over many seeds: as often as its chance says."""
    draw = np.random.default_rng(1)
    scores, features = draw.random(12), draw.normal(size=(12, 3))
    first = [draw_questions(scores, features, 2, seed=seed) for seed in range(1500)]
    for row in range(12):
        taken = [q.chances[0] for q in first if q.rows[0] == row]
        share, chance = len(taken) / len(first), taken[0]
        assert abs(share - chance) < 4 * np.sqrt(chance / len(first))


def test_half_of_the_draws_go_where_answers_are_worth_most():
    scores = np.linspace(0, 1, 400) ** 4
    best = set(range(400 - POOL * 20, 400))
    shares = [np.mean([row in best for row in draw_questions(scores, None, 20, seed=s).rows]) for s in range(40)]
    assert 0.5 < np.mean(shares) < 0.75  # all of the one half, a fifth of the other


def test_draws_spread_over_the_features():
    """Forty rows of one sort and ten of ten others, all alike in score: more sorts are met than by chance."""
    features = np.concatenate([np.zeros((90, 10)), 9 * np.eye(10)])

    def sorts(given) -> float:
        drawn = [draw_questions(np.ones(100), given, 20, seed=seed).rows for seed in range(60)]
        return float(np.mean([(rows >= 90).sum() for rows in drawn]))

    assert sorts(features) > sorts(None) + 1.5


def test_no_more_rows_than_there_are():
    with pytest.raises(ValueError, match="5 rows are asked for, and 4 are left"):
        draw_questions(np.ones(6), None, 5, asked=[0, 1])
