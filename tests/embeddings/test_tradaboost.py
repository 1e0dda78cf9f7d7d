"""TrAdaBoost: the paper's algorithm, step by step, and what a few target labels are worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from hftransfer import TrAdaBoost


def drifted(seed: int, few: int = 16) -> tuple[np.ndarray, ...]:
    """Source and target whose border differs: half of the source's rows are labelled by a rule of their own."""
    draw = np.random.default_rng(seed)
    x, target, test = (draw.normal(size=(rows, 3)) for rows in (200, few, 400))
    odd = np.arange(200) % 2 == 1
    labels = np.where(odd, x[:, 1] > 0.3, x[:, 0] > 0).astype(int)
    return x, labels, target, (target[:, 0] > 0).astype(int), test, (test[:, 0] > 0).astype(int)


def published(x, y, target, target_labels, test, rounds):
    """Figure 1 of the paper in plain loops, labels 0 and 1, over stumps: votes as products."""
    n, m = len(x), len(target)
    rows, labels = np.concatenate([x, target]), np.concatenate([y, target_labels])
    w = [1 / n] * n + [1 / m] * m
    beta = 1 / (1 + math.sqrt(2 * math.log(n) / rounds))
    betas, answers = [], []
    for _ in range(rounds):
        p = [value / sum(w) for value in w]
        stump = DecisionTreeClassifier(max_depth=1, random_state=0)
        h = stump.fit(rows, labels, sample_weight=np.array(p) * (n + m)).predict(rows)
        error = sum(w[i] * abs(h[i] - labels[i]) for i in range(n, n + m)) / sum(w[n:])
        error = min(max(error, 0.5 / m), 0.49)
        betas.append(error / (1 - error))
        for i in range(n + m):
            wrong = abs(h[i] - labels[i])
            w[i] *= beta**wrong if i < n else betas[-1] ** -wrong
        answers.append(stump.predict(test))
    first = math.ceil(rounds / 2)  # counted from 1
    chosen = range(first - 1, rounds)
    left = np.prod([betas[t] ** -answers[t].astype(float) for t in chosen], axis=0)
    return (left >= math.prod(betas[t] ** -0.5 for t in chosen)).astype(int), np.array(w) / sum(w), betas


@pytest.mark.parametrize("rounds", [1, 6, 9])
def test_it_is_the_papers_algorithm(rounds):
    x, y, target, target_labels, test, _ = drifted(1)
    predictions, weights, betas = published(x, y, target, target_labels, test, rounds)
    model = TrAdaBoost(DecisionTreeClassifier(max_depth=1, random_state=0), rounds)
    model.fit(x, y, target=target, target_labels=target_labels)
    np.testing.assert_allclose(model.errors_ / (1 - model.errors_), betas)
    np.testing.assert_allclose(np.concatenate([model.source_weights_, model.target_weights_]), weights)
    np.testing.assert_array_equal(model.predict(test), predictions)


def test_an_error_above_a_half_is_capped():
    """The learner is wrong on all target rows; without the cap their weights would fall."""
    x, y = np.arange(120.0).reshape(-1, 1), np.arange(120) % 2
    stubborn = DummyClassifier(strategy="constant", constant=1)
    model = TrAdaBoost(stubborn, rounds=1).fit(x, y, target=[[0.0], [3.0]], target_labels=[0, 0])
    assert model.errors_.tolist() == [0.49]
    assert model.target_weights_[0] / model.source_weights_[1] == pytest.approx(120 / 2 * 0.51 / 0.49)
    assert model.source_weights_[0] / model.source_weights_[1] == pytest.approx(1 / (1 + math.sqrt(2 * math.log(120))))


def test_source_rows_of_another_rule_lose_their_weight():
    x, y, target, target_labels, *_ = drifted(0, few=40)
    model = TrAdaBoost().fit(x, y, target=target, target_labels=target_labels)
    agrees = y == (x[:, 0] > 0)
    assert model.source_weights_[~agrees].mean() < 0.2 * model.source_weights_[agrees].mean()


def test_a_few_target_labels_help():
    """Mean of five seeds: above a classifier of the source and the target rows together, and of the target's alone."""
    scores = []
    for seed in range(5):
        x, y, target, target_labels, test, test_labels = drifted(seed)
        together = LogisticRegression().fit(np.concatenate([x, target]), np.concatenate([y, target_labels]))
        alone = LogisticRegression().fit(target, target_labels)
        boosted = TrAdaBoost(LogisticRegression()).fit(x, y, target=target, target_labels=target_labels)
        scores.append([model.score(test, test_labels) for model in (boosted, together, alone)])
    boosted, together, alone = np.mean(scores, axis=0)
    assert boosted > together + 0.03
    assert boosted > alone


@pytest.mark.parametrize(
    "estimator", [KNeighborsClassifier(3), make_pipeline(StandardScaler(), LogisticRegression())], ids=str
)
def test_estimators_without_sample_weights_are_fitted_on_drawn_rows(estimator):
    x, y, target, target_labels, test, test_labels = drifted(0, few=40)
    first, again, other = (
        TrAdaBoost(estimator, rounds=8, seed=seed).fit(x, y, target=target, target_labels=target_labels)
        for seed in (0, 0, 1)
    )
    assert first.score(test, test_labels) > 0.75
    np.testing.assert_array_equal(first.source_weights_, again.source_weights_)
    assert not np.array_equal(first.source_weights_, other.source_weights_)


def test_three_classes_with_names():
    draw = np.random.default_rng(0)
    names = np.array(["down", "flat", "up"])
    classes, target_classes = np.arange(150) % 3, np.arange(30) % 3
    x = draw.normal(size=(150, 2)) + 3 * np.stack([classes == 1, classes == 2], 1)
    target = draw.normal(size=(30, 2)) + 3 * np.stack([target_classes == 1, target_classes == 2], 1) + 0.5
    model = TrAdaBoost(rounds=6).fit(x, names[classes], target=target, target_labels=names[target_classes])
    assert model.score(target, names[target_classes]) > 0.8
    np.testing.assert_allclose(model.predict_proba(target).sum(1), 1)


def test_it_is_cross_validated_as_any_classifier():
    x, y, target, target_labels, *_ = drifted(0)
    given = {"target": target, "target_labels": target_labels}
    scores = cross_val_score(TrAdaBoost(GaussianNB(), rounds=3), x, y, cv=2, params=given)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs a few labelled target rows"),
        ({"target": [[0.0], [1.0]], "target_labels": [0]}, "target_labels must be 2 labels"),
        ({"target": [[0.0, 1.0]] * 2, "target_labels": [0, 1]}, "X are 1 wide and target 2"),
        ({"target": [[0.0], [1.0]], "target_labels": ["0", "1"]}, "y and target_labels: some labels are texts"),
        ({"target": [[0.0], [1.0]], "target_labels": [0, None]}, "target_labels has none in row 1"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(ValueError, match=message):
        TrAdaBoost().fit([[0.0], [1.0]], [0, 1], **given)


def test_settings_that_are_refused():
    given = {"target": [[0.0], [1.0]], "target_labels": [0, 0]}
    with pytest.raises(ValueError, match="rounds=0 must be"):
        TrAdaBoost(rounds=0).fit([[0.0], [1.0]], [0, 1], **given)
    with pytest.raises(ValueError, match="one class alone"):
        TrAdaBoost().fit([[0.0], [1.0]], [0, 0], **given)
