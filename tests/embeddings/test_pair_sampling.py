"""Pairs of labelled rows against all of them listed, and how many are drawn."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from hftransfer.embeddings.few_shot.pair_sampling import count_pairs, draw_pairs, kept_pairs

CLASSES = np.array([2, 0, 1, 0, 2, 2, 1, 0, 0])
LISTED = {
    of_one: {(i, j) for i, j in itertools.combinations(range(len(CLASSES)), 2) if (CLASSES[i] == CLASSES[j]) == of_one}
    for of_one in (True, False)
}


def counted(pairs, of_one: bool) -> Counter:
    chosen = zip(pairs.first[pairs.same == of_one], pairs.second[pairs.same == of_one], strict=True)
    return Counter(tuple(sorted((int(i), int(j)))) for i, j in chosen)


def test_all_pairs_are_counted():
    assert count_pairs(CLASSES) == (len(LISTED[True]), len(LISTED[False])) == (10, 26)


def test_unique_takes_each_pair_once():
    pairs = draw_pairs(CLASSES, "unique", 1000, seed=3)
    for of_one in (True, False):
        assert counted(pairs, of_one) == Counter(LISTED[of_one])


def test_oversampling_repeats_the_fewer_evenly():
    pairs = draw_pairs(CLASSES, "oversampling", 1000, seed=3)
    assert counted(pairs, False) == Counter(LISTED[False])
    of_one = counted(pairs, True)
    assert set(of_one) == LISTED[True]
    assert of_one.total() == 26
    assert set(of_one.values()) == {2, 3}


def test_undersampling_leaves_out_of_the_more():
    pairs = draw_pairs(CLASSES, "undersampling", 1000, seed=3)
    assert counted(pairs, True) == Counter(LISTED[True])
    of_two = counted(pairs, False)
    assert of_two.total() == 10
    assert set(of_two.values()) == {1}
    assert set(of_two) < LISTED[False]


@pytest.mark.parametrize("sampling", ["oversampling", "undersampling", "unique"])
def test_more_than_a_bound_are_drawn_in_proportion(sampling):
    whole, few = kept_pairs(CLASSES, sampling, 1000), kept_pairs(CLASSES, sampling, 8)
    assert sum(few) == 8
    assert few[0] / 8 == pytest.approx(whole[0] / sum(whole), abs=1 / 8)
    pairs = draw_pairs(CLASSES, sampling, 8, seed=0)
    assert (int(pairs.same.sum()), int((~pairs.same).sum())) == few
    for of_one in (True, False):
        assert set(counted(pairs, of_one)) <= LISTED[of_one]


def test_rows_by_the_ten_thousand_need_no_list_of_pairs():
    classes = np.arange(60_000) % 7
    pairs = draw_pairs(classes, "oversampling", 100, seed=1)
    assert len(pairs) == 100
    np.testing.assert_array_equal(classes[pairs.first] == classes[pairs.second], pairs.same)
    assert (pairs.first != pairs.second).all()


def test_one_row_a_class_gives_pairs_of_two_classes_alone():
    pairs = draw_pairs(np.arange(4), "oversampling", 1000, seed=0)
    assert len(pairs) == 6
    assert not pairs.same.any()
    with pytest.raises(ValueError, match="sampling='undersampling' leaves no pair: each class has one row"):
        draw_pairs(np.arange(4), "undersampling", 1000, seed=0)


def test_the_draw_is_the_seed_s():
    first, again, other = (draw_pairs(CLASSES, "oversampling", 20, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.first, again.first)
    np.testing.assert_array_equal(first.second, again.second)
    assert (first.first != other.first).any()
