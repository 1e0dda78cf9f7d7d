"""The rule without source rows: the start stays unless nothing is lost and neighbours side with the adapted model."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer import SourceFreeRule
from hftransfer.selection.source_free_rule import emptied_classes, neighbour_votes

RULE = SourceFreeRule()


def world(rows=400, classes=4, wrong=0.2, seed=0):
    """Clusters, the classes of their rows, and a start model that is wrong on some rows."""
    draw = np.random.default_rng(seed)
    truth = np.arange(rows) % classes
    features = 3 * np.eye(classes)[truth] + draw.normal(size=(rows, classes))
    named = np.where(draw.random(rows) < wrong, draw.integers(classes, size=rows), truth)
    return features, truth, named


def logits(named, classes=4, sure=4.0):
    return sure * np.eye(classes)[named]


def test_a_better_model_is_taken():
    features, truth, named = world()
    judgement = RULE.judge(logits(named), logits(truth), features)
    assert judgement.accepted
    assert not judgement.failed
    assert judgement.agreement == pytest.approx((truth == named).mean())
    assert judgement.votes[0] > 3 * judgement.votes[1]


def test_a_worse_one_is_not():
    """The same pair the other way round."""
    features, truth, named = world()
    judgement = RULE.judge(logits(truth), logits(named), features)
    assert judgement.failed == ("neighbours",)
    assert "nothing shows that what it changed is better" in judgement.reasons[0]


@pytest.mark.parametrize(
    ("spoil", "gate"),
    [
        (lambda truth: np.zeros_like(truth), "collapse"),
        (lambda truth: np.where(truth == 3, 2, truth), "lost class"),
        (lambda truth: (truth + 1) % 4, "agreement"),
        (lambda truth: truth, "neighbours"),  # nothing has changed
    ],
)
def test_each_gate(spoil, gate):
    features, truth, _ = world()
    judgement = RULE.judge(logits(truth), logits(spoil(truth)), features, class_names=("a", "b", "c", "d"))
    assert not judgement.accepted
    assert gate in judgement.failed
    assert len(judgement.reasons) == len(judgement.failed)


def test_predictions_that_are_not_finite_are_refused():
    features, truth, named = world()
    broken = logits(truth)
    broken[3, 1] = np.nan
    assert RULE.judge(logits(named), broken, features).failed == ("finite",)


def test_believed_frequencies_excuse_a_lost_class_and_refuse_even_ones():
    features, truth, _ = world()
    rare = np.array([0.4, 0.3, 0.299, 0.001])
    lost = np.where(truth == 3, 2, truth)
    assert "lost class" in RULE.judge(logits(truth), logits(lost), features).failed
    assert "lost class" not in RULE.judge(logits(truth), logits(lost), features, rare).failed
    skewed = np.repeat(np.arange(4), (280, 40, 40, 40))
    features = 3 * np.eye(4)[skewed] + np.random.default_rng(1).normal(size=(400, 4))
    even = np.where(np.arange(400) < 100, 1, skewed)
    believed = np.array([0.7, 0.1, 0.1, 0.1])
    known = RULE.judge(logits(skewed), logits(even), features, believed, frequencies_differ=True)
    assert "class frequencies" in known.failed
    for beliefs, differ in ((believed, False), (None, True)):
        judgement = RULE.judge(logits(skewed), logits(even), features, beliefs, frequencies_differ=differ)
        assert judgement.failed == ("neighbours",)  # which tell it all the same


# ---- whose features are asked


def shaped(features, named, much=4.0):
    """Features of a model that gives these names: rows of one name lie together."""
    return features + much * np.eye(4)[named]


@pytest.mark.parametrize("seed", range(3))
def test_a_models_own_features_side_with_it(seed):
    """So that the start's final layer refuses a better model, and the adapted one's would take a worse."""
    features, truth, named = world(seed=seed)
    better, worse = (logits(named), logits(truth)), (logits(truth), logits(named))
    assert RULE.judge(*better, features).accepted
    assert not RULE.judge(*better, shaped(features, named)).accepted
    assert not RULE.judge(*worse, features).accepted
    assert RULE.judge(*worse, shaped(features, named)).accepted


def test_features_without_classes_take_nothing():
    _, truth, named = world()
    noise = np.random.default_rng(5).normal(size=(400, 8))
    assert not RULE.judge(logits(named), logits(truth), noise).accepted


def test_even_classes_on_a_skewed_target_are_refused():
    """What information maximisation does: rows of the common class are spread over classes that are hardly there."""
    draw = np.random.default_rng(3)
    truth = np.repeat(np.arange(4), (340, 20, 20, 20))
    features = 3 * np.eye(4)[truth] + draw.normal(size=(400, 4))
    start = np.where(draw.random(400) < 0.1, draw.integers(4, size=400), truth)
    spread = np.where(np.arange(400) < 150, 1 + np.arange(400) % 3, start)
    judgement = RULE.judge(logits(start), logits(spread), features)
    assert judgement.failed == ("neighbours",)
    assert judgement.votes[1] > 5 * judgement.votes[0]


# ---- merged classes


def overlapping(seed=0, rows=1200):
    """Clusters of which the last two overlap."""
    draw = np.random.default_rng(seed)
    truth = np.arange(rows) % 4
    centres = np.array([[4, 0, 0], [0, 4, 0], [0, 0, 3], [0, 1.5, 3]])
    return centres[truth] + draw.normal(size=(rows, 3)), truth, draw


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97, 0.99])
def test_a_class_that_is_merged_with_another_is_refused(share):
    """The fewer rows stay in it, the fewer speak for it; neighbours alone would side with the merger."""
    features, truth, draw = overlapping()
    merged = np.where((truth == 3) & (draw.random(len(truth)) < share), 2, truth)
    judgement = RULE.judge(logits(truth), logits(merged), features, class_names=("a", "b", "c", "d"))
    assert judgement.failed == ("neighbours",)
    assert ("rows in 'd', too few to be asked" in judgement.reasons[0]) == (share > 0.8)
    if share == 0.99:
        keeps = np.flatnonzero(truth == merged)
        x = features - features.mean(0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        nearest = [keeps[np.argsort(-x[keeps] @ x[i])[:5]] for i in np.flatnonzero(truth != merged)]
        assert np.mean([(truth[rows] == 2).sum() > (truth[rows] == 3).sum() for rows in nearest]) > 0.5


def test_swapped_classes_are_refused():
    features, truth, _ = overlapping()
    swapped = np.where(truth >= 2, 5 - truth, truth)
    judgement = SourceFreeRule(agreement=0.4).judge(logits(truth), logits(swapped), features)
    assert judgement.failed == ("neighbours",)
    assert judgement.votes == (0, 600)
    assert "and of 1 other classes as few" in judgement.reasons[0]


def test_emptied_classes_by_hand():
    draw = np.random.default_rng(4)
    was, now = draw.integers(6, size=90), draw.integers(6, size=90)
    now = np.where(draw.random(90) < 0.15, was, now)
    shares = [np.mean(now[was == k] == k) for k in range(6)]
    found = emptied_classes(was, now, 0.25)
    assert found.tolist() == [share < 0.25 for share in shares]
    assert 0 < found.sum() < 6


@pytest.mark.parametrize("layer", ["first", "hidden", "hidden:", "mean", 0])
def test_a_layer_that_cannot_be(layer):
    with pytest.raises(ValueError, match='must be "head" or "hidden:"'):
        SourceFreeRule(layer=layer)


def test_a_student_need_not_gain():
    features, truth, _ = world()
    assert RULE.judge(logits(truth), logits(truth), features, needs_gain=False).accepted
    assert not RULE.judge(logits(truth), logits(np.zeros_like(truth)), features, needs_gain=False).accepted


def test_votes_by_hand():
    draw = np.random.default_rng(2)
    features, was, now = draw.normal(size=(60, 3)), draw.integers(3, size=60), draw.integers(3, size=60)
    now = np.where(draw.random(60) < 0.6, was, now)
    x = features - features.mean(0)
    won = lost = 0
    for i in np.flatnonzero(was != now):
        alike = [j for j in range(60) if was[j] == now[j]]
        cosines = [x[i] @ x[j] / np.sqrt((x[i] @ x[i]) * (x[j] @ x[j])) for j in alike]
        nearest = [was[alike[k]] for k in np.argsort(cosines)[::-1][:5]]
        new, old = nearest.count(now[i]), nearest.count(was[i])
        won, lost = won + (new > old), lost + (old > new)
    assert not emptied_classes(was, now).any()
    assert neighbour_votes(features, was, now) == (won, lost)
    assert won + lost > 5


def test_no_votes_without_rows_to_ask():
    assert neighbour_votes(np.ones((3, 2)), np.array([0, 0, 1]), np.array([0, 1, 0])) == (0, 0)
