"""The rule without source rows: the start stays unless nothing is lost and neighbours side with the adapted model."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer import SourceFreeRule
from hftransfer.selection.source_free_rule import neighbour_votes

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
    assert "class frequencies" in RULE.judge(logits(skewed), logits(even), features, believed).failed
    assert "class frequencies" not in RULE.judge(logits(skewed), logits(even), features).failed


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
    assert neighbour_votes(features, was, now) == (won, lost)
    assert won + lost > 5


def test_no_votes_without_rows_to_ask():
    assert neighbour_votes(np.ones((3, 2)), np.array([0, 0, 1]), np.array([0, 1, 0])) == (0, 0)
