"""Paired decision: the test against all signs, its level, and what big differences come to."""

from itertools import product

import numpy as np
import pytest

from hftransfer.selection.answers import AnsweredScores
from hftransfer.selection.paired_decision import LEVEL, PLANNED_LEVEL, compare, decide, sign_flip_test


def model(name: str, right: np.ndarray, sure: float = 0.8) -> AnsweredScores:
    """A model of two classes that gives its answer the same probability throughout."""
    loss = np.where(right > 0, 2 * (1 - sure) ** 2, 2 * sure**2)
    return AnsweredScores(name, right.astype(float), np.ones(len(right)), loss)


def drawn(name: str, accuracy: float, rows: int, seed: int) -> AnsweredScores:
    return model(name, np.random.default_rng((seed, len(name))).random(rows) < accuracy)


@pytest.mark.parametrize("rows", [1, 4, 9, 12])
def test_all_signs_are_tried(rows):
    d = np.random.default_rng(rows).normal(0.3, 1, rows)
    flipped = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in product((1, -1), repeat=rows)]
    assert sign_flip_test(d) == pytest.approx(np.mean([value >= d.sum() - 1e-12 for value in flipped]))


def test_drawn_signs_are_near_all_of_them():
    d = np.random.default_rng(0).normal(0.25, 1, 16)
    signs = np.array(list(product((1, -1), repeat=16)))
    assert sign_flip_test(d) == pytest.approx((signs @ d >= d.sum() - 1e-12).mean(), abs=0.02)


def test_equal_models_tell_nothing():
    assert sign_flip_test(np.zeros(30)) == 1
    a = drawn("a", 0.7, 50, 0)
    assert decide([a, model("b", a.right)], "a", np.ones(50))[0] == "a"


@pytest.mark.parametrize("rows", [20, 50, 200])
@pytest.mark.parametrize("standing", ["good", "poor"])
def test_a_much_worse_model_is_never_picked(rows, standing):
    """0.9 beside 0.55, rows of unequal weights: a poor one that stands is dropped, never taken in."""
    ends = []
    for seed in range(150):
        weights = np.random.default_rng(seed).uniform(0.1, 2, rows)
        ends.append(decide([drawn("good", 0.9, rows, seed), drawn("poor", 0.55, rows, seed)], standing, weights)[0])
    share = np.mean([end == "good" for end in ends])
    assert share == 1 if standing == "good" else share > {20: 0.75, 50: 0.97, 200: 0.999}[rows]


def test_the_one_that_stands_is_seldom_dropped_for_nothing():
    names = ("a", "bb", "ccc", "dddd", "eeeee")
    dropped = [decide([drawn(n, 0.75, 50, seed) for n in names], "a", np.ones(50))[0] != "a" for seed in range(150)]
    assert np.mean(dropped) < LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 150)


def test_the_best_of_several_winners_is_taken():
    models = [drawn(name, accuracy, 200, 1) for name, accuracy in (("a", 0.5), ("bb", 0.75), ("ccc", 0.95))]
    name, comparisons = decide(models, "a", np.ones(200))
    assert name == "ccc"
    assert [c.wins for c in comparisons] == [True, True]
    assert {c.level for c in comparisons} == {LEVEL / 2}


def test_a_better_score_with_fewer_right_answers_does_not_win():
    rows = 100
    right = np.arange(rows) < 70
    sure, unsure = model("sure", right, 0.999), model("unsure", np.arange(rows) < 69, 0.6)
    comparison = compare(unsure, sure, np.ones(rows))
    assert comparison.p < 0.2
    assert comparison.gain == pytest.approx(-0.01)
    assert not comparison.wins


def test_rows_count_by_their_weights():
    right = np.array([True] * 10 + [False] * 10)
    heavy = np.array([2.0] * 10 + [0.1] * 10)
    assert decide([model("a", ~right), model("b", right)], "a", heavy)[0] == "b"
    assert decide([model("a", ~right), model("b", right)], "a", heavy[::-1])[0] == "a"


@pytest.mark.parametrize("rows", [20, 50, 200])
def test_harm_is_the_other_side_of_a_gain(rows):
    """Both sides by the same test, with the two models changing places."""
    good, poor = drawn("good", 0.9, rows, 3), drawn("poor", 0.5, rows, 3)
    weights = np.random.default_rng(rows).uniform(0.1, 2, rows)
    up, down = compare(good, poor, weights), compare(poor, good, weights)
    assert up.wins
    assert down.harms
    assert not (up.harms)
    assert not (down.wins)
    assert (up.p, up.p_worse) == pytest.approx((down.p_worse, down.p), abs=0.02)


def test_equal_models_neither_win_nor_harm():
    a = drawn("a", 0.7, 50, 0)
    comparison = compare(model("b", a.right), a, np.ones(50))
    assert not comparison.harms
    assert not comparison.wins


def test_a_model_that_is_as_good_seldom_harms():
    level = PLANNED_LEVEL
    harms = [compare(drawn("a", 0.75, 50, s), drawn("bb", 0.75, 50, s), np.ones(50)).harms for s in range(200)]
    assert np.mean(harms) < level + 3 * np.sqrt(level * (1 - level) / 200)


def test_what_was_trained_on_answers_stays_out_if_it_harms_and_no_gate_stops_a_clear_gain():
    right = np.arange(40) < 20
    standing = model("a", right)
    better, worse = model("b", np.arange(40) < 34), model("c", np.arange(40) < 8)
    for other, ends in ((better, (True, True)), (worse, (False, False)), (model("d", right), (True, False))):
        comparison = compare(other, standing, np.ones(40))
        assert (comparison.taken(refused=False), comparison.taken(refused=True)) == ends
