"""Strength of a linear probe's penalty, beside scikit-learn's cross-validation and the rule of one standard error."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hftransfer.selection.transferability.linear_probe import fit_probe, stratified_folds
from hftransfer.selection.transferability.probe_strength import STRENGTHS, cross_validated_strength


def rows_of(apart: float, count: int = 150, classes: int = 3, seed: int = 0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=count)
    return draw.normal(size=(count, 12)) + apart * draw.normal(size=(classes, 12))[labels], labels


def losses_by_hand(x, y, weights, strength):
    """Of each row, by scikit-learn on features that are scaled within the fold."""
    fold, losses = stratified_folds(y, 0, 5), np.zeros(len(y))
    for number in range(5):
        out = fold == number
        mean, spread = x[~out].mean(0), np.sqrt(x[~out].var(0).sum())
        regression = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
        regression.fit((x[~out] - mean) / spread, y[~out], sample_weight=weights[~out])
        losses[out] = -regression.predict_log_proba((x[out] - mean) / spread)[np.arange(out.sum()), y[out]]
    return losses


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("apart", [0.3, 1.0, 1.8, 3.0])
def test_the_strongest_penalty_within_one_standard_error_of_the_best(apart, weighted):
    x, y = rows_of(apart)
    weights = np.random.default_rng(1).uniform(0.2, 2.0, len(y)) if weighted else np.ones(len(y))
    weights /= weights.mean()
    losses = {c: losses_by_hand(x, y, weights, c) for c in STRENGTHS}
    means = {c: (weights * losses[c]).sum() / weights.sum() for c in STRENGTHS}
    best = min(means, key=means.get)
    error = np.sqrt((weights**2 * (losses[best] - means[best]) ** 2).sum()) / weights.sum()
    expected = min(c for c in STRENGTHS if means[c] <= means[best] + error)
    assert cross_validated_strength(x, y, weights if weighted else None) == expected


def test_classes_that_are_hard_to_tell_apart_are_penalised_more():
    assert [cross_validated_strength(*rows_of(apart)) for apart in (0.2, 1.0, 1.8, 3.0)] == list(STRENGTHS)


def test_features_that_are_scaled_alike_give_the_same():
    x, y = rows_of(0.6)
    assert cross_validated_strength(x, y) == cross_validated_strength(1000 * x + 3, y)
    one, other = fit_probe(x, y, strength=10.0), fit_probe(1000 * x + 3, y, strength=10.0)
    assert np.allclose(one.logits(x), other.logits(1000 * x + 3), atol=1e-2)


@pytest.mark.parametrize(
    "lonely",
    [pytest.param([9], id="a class of one row"), pytest.param([7, 7, 9], id="and one of two")],
)
def test_rare_classes_do_not_decide(lonely):
    x, y = rows_of(3.0, count=300)
    more = np.concatenate([x, np.zeros((len(lonely), x.shape[1]))])
    assert cross_validated_strength(more, np.append(y, lonely)) == cross_validated_strength(x, y)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [4, 4, 4]])
def test_where_nothing_can_be_held_out_the_penalty_is_strong(labels):
    assert cross_validated_strength(np.eye(len(labels)), np.array(labels)) == 1.0


def test_rows_that_count_nothing_have_no_part():
    x, y = rows_of(3.0)
    wrong = np.concatenate([np.ones(len(y)), np.zeros(len(y))])
    both = cross_validated_strength(np.concatenate([x, x]), np.append(y, (y + 1) % 3), wrong)
    assert both == cross_validated_strength(x, y)


def test_of_many_rows_some_take_part(monkeypatch):
    monkeypatch.setattr("hftransfer.selection.transferability.probe_strength.MOST_ROWS", 60)
    x, y = rows_of(3.0, count=400)
    assert cross_validated_strength(x, y) in STRENGTHS
