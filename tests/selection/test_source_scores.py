"""Scores of sources, the relation of domains, and the bootstrap of a ranking, on arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hftransfer.selection.domain_distance import proxy_a_distance, told_apart
from hftransfer.selection.transferability.domain_relation import relate_features
from hftransfer.selection.transferability.rank_resampling import (
    order_of,
    ranks_of,
    resampled_means,
    share_first,
)
from hftransfer.selection.transferability.source_scores import score_sources

DIRECTION = np.array([3.0, 0.0, 0.0, 0.0])


def domain(shift: float = 0.0, rows: int = 120, seed: int = 0, flipped: float = 0.0):
    """Two classes along the first axis; the second is shifted, and a share of labels is flipped."""
    draw = np.random.default_rng(seed)
    classes = np.arange(rows) % 2
    features = draw.normal(size=(rows, 4)) + np.outer(classes - 0.5, DIRECTION)
    features[:, 1] += shift
    wrong = draw.random(rows) < flipped
    return features, np.where(wrong, 1 - classes, classes)


SOURCES = {"near": domain(0.2, seed=1), "middle": domain(1.5, seed=2), "far": domain(6.0, seed=3)}
TARGET, TARGET_CLASSES = domain(0.0, 100, seed=9)


def test_the_nearest_of_equally_good_sources_is_first():
    scores = score_sources(SOURCES, TARGET, 2, resamples=200)
    assert [scores[name].rank for name in SOURCES] == sorted(scores[name].rank for name in SOURCES)
    distances = [scores[name].a_distance for name in SOURCES]
    assert distances == sorted(distances)
    assert distances == [proxy_a_distance(features, TARGET) for features, _ in SOURCES.values()]
    assert sum(s.first for s in scores.values()) == pytest.approx(1)
    assert scores["near"].first > scores["far"].first
    for s in scores.values():
        assert s.distance_low <= s.a_distance <= s.distance_high
        assert 0.8 < s.probe_accuracy <= 1
        assert s.oracle_accuracy is None


def test_a_probe_that_answers_otherwise_agrees_least():
    """Of three sources, one has its labels changed over."""
    features, classes = domain(0.0, seed=4)
    scores = score_sources({**SOURCES, "other": (features, 1 - classes)}, TARGET, 2, resamples=50)
    assert scores["other"].agreement < 0.2
    assert min(scores[name].agreement for name in ("near", "middle")) > 0.8


def test_target_labels_change_nothing_but_the_oracle():
    without = score_sources(SOURCES, TARGET, 2, resamples=50)
    right = score_sources(SOURCES, TARGET, 2, resamples=50, oracle_classes=TARGET_CLASSES)
    wrong = score_sources(SOURCES, TARGET, 2, resamples=50, oracle_classes=1 - TARGET_CLASSES)
    for name, score in without.items():
        assert replace(right[name], oracle_accuracy=None) == replace(wrong[name], oracle_accuracy=None) == score
        assert right[name].oracle_accuracy == pytest.approx(1 - wrong[name].oracle_accuracy)
    assert right["near"].oracle_accuracy > 0.85


def test_oracle_reads_labelled_rows_alone():
    some = np.where(np.arange(len(TARGET)) < 40, TARGET_CLASSES, -1)
    part = score_sources(SOURCES, TARGET, 2, resamples=10, oracle_classes=some)["near"].oracle_accuracy
    assert part * 40 == pytest.approx(round(part * 40))
    none = score_sources(SOURCES, TARGET, 2, resamples=10, oracle_classes=np.full(len(TARGET), -1))
    assert none["near"].oracle_accuracy is None


def test_one_source_alone_has_nothing_to_agree_with():
    (score,) = score_sources({"near": SOURCES["near"]}, TARGET, 2, resamples=10).values()
    assert (score.rank, score.first, score.agreement) == (1, 1.0, None)


def test_a_class_that_a_source_lacks_is_never_its_answer():
    features, classes = domain(seed=5)
    scores = score_sources({"two": (features, classes), "three": (features, np.where(classes == 1, 2, 0))}, TARGET, 3)
    assert all(np.isfinite([s.a_distance, s.agreement, s.estimated_accuracy]).all() for s in scores.values())
    assert scores["two"].agreement == pytest.approx(0.5, abs=0.15)  # on the class that both have


@pytest.mark.parametrize(
    ("sources", "target", "message"),
    [
        ({"a": (TARGET[:9], TARGET_CLASSES[:9])}, TARGET, "a has 9 rows; a source is chosen from 10 at least"),
        (SOURCES, TARGET[:5], "target has 5 rows"),
        ({"a": (TARGET, 0 * TARGET_CLASSES)}, TARGET, "source 'a' holds one class only"),
        ({"a": (TARGET[:, :2], TARGET_CLASSES)}, TARGET, "must come from the same model"),
    ],
)
def test_domains_that_cannot_be_scored_are_refused(sources, target, message):
    with pytest.raises(ValueError, match=message):
        score_sources(sources, target, 2)


def test_rows_told_apart_make_the_distance():
    source, target = told_apart(*(features for features, _ in (SOURCES["middle"], domain(seed=7))))
    by_hand = 2 * (1 - ((~source).mean() + (~target).mean()))
    assert by_hand == pytest.approx(proxy_a_distance(SOURCES["middle"][0], domain(seed=7)[0]))


def test_relation_of_domains():
    domains = {**SOURCES, "other": (SOURCES["near"][0], SOURCES["near"][1] + 1)}  # classes 1 and 2
    related = relate_features(domains, 3)
    assert related.names == ("near", "middle", "far", "other")
    np.testing.assert_array_equal(related.a_distance, related.a_distance.T)
    np.testing.assert_array_equal(np.diag(related.a_distance), 0)
    assert related.a_distance[0, 2] > related.a_distance[0, 1]
    assert related.label_overlap[0].tolist() == [1, 1, 1, 1 / 3]
    assert (related.probe_transfer[:3, :3] > 0.8).all()
    assert related.probe_transfer[0, 3] < 0.2  # each of its rows carries another class there
    assert related.probe_transfer[3, 3] == related.probe_transfer[0, 0]


def test_ranks_and_order():
    np.testing.assert_array_equal(ranks_of(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]])), [[1, 3, 2], [2, 2, 2]])
    scores = np.array([0.5, 0.7, 0.5, 0.5])
    assert order_of(scores, np.array([1.0, 0.0, 2.0, 1.0]), np.array([0.0, 9.0, 0.0, 5.0])).tolist() == [4, 1, 2, 3]
    assert sorted(order_of(np.zeros(4))) == [1, 2, 3, 4]


def test_resampled_means_have_the_spread_of_a_mean():
    draw = np.random.default_rng(0)
    values = (draw.random((2, 400)) < [[0.5], [0.8]]).astype(float)
    means = resampled_means(values, 2000, seed=1)
    np.testing.assert_allclose(means.mean(0), values.mean(1), atol=0.005)
    np.testing.assert_allclose(means.std(0), values.std(1) / 20, rtol=0.06)
    np.testing.assert_array_equal(means, resampled_means(values, 2000, seed=1))
    twice = resampled_means(np.stack([values[0], values[0]]), 50, seed=2)
    np.testing.assert_array_equal(twice[:, 0], twice[:, 1])  # the same rows for all


def test_how_often_each_is_first():
    scores = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    assert share_first(scores, np.array([2, 1])).tolist() == [0.25, 0.75]
    assert share_first(scores, np.array([1, 2])).tolist() == [0.5, 0.5]
