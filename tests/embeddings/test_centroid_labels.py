"""Centroid pseudo-labels: the formula, round by round, and what they put right."""

from __future__ import annotations

import numpy as np
import pytest

from hftransfer import centroid_labels


def cosine(a, b):
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))


def by_hand(features, probabilities, rounds):
    """Row by row, class by class."""
    rows = [np.append(f, 1.0) / np.sqrt(np.dot(f, f) + 1.0) for f in np.asarray(features, dtype=np.float64)]
    classes = len(probabilities[0])
    predicted = {int(np.argmax(p)) for p in probabilities}
    weights, centroids = [list(p) for p in probabilities], [np.zeros(len(rows[0])) for _ in range(classes)]
    for _ in range(rounds):
        for k in range(classes):
            total = sum(w[k] for w in weights)
            if total > 0:
                centroids[k] = sum(w[k] * row for w, row in zip(weights, rows, strict=True)) / total
        labels = [max(sorted(predicted), key=lambda k: cosine(row, centroids[k])) for row in rows]
        weights = [[float(k == label) for k in range(classes)] for label in labels]
    return labels


def drawn(seed, rows=60, classes=4, width=5):
    draw = np.random.default_rng(seed)
    truth = draw.integers(classes, size=rows)
    features = 2 * draw.normal(size=(classes, width))[truth] + draw.normal(size=(rows, width))
    logits = 2 * np.eye(classes)[truth] + draw.normal(size=(rows, classes))
    return features, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), truth


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_formula(rounds):
    for seed in range(5):
        features, probabilities, _ = drawn(seed)
        assert centroid_labels(features, probabilities, rounds).tolist() == by_hand(features, probabilities, rounds)


def test_a_second_round_changes_labels():
    differing = 0
    for seed in range(10):
        features, probabilities, _ = drawn(seed)
        differing += (centroid_labels(features, probabilities, 1) != centroid_labels(features, probabilities, 2)).any()
    assert differing


def test_it_is_right_more_often_than_the_predictions_where_classes_are_clusters():
    draw = np.random.default_rng(0)
    truth = np.arange(400) % 4
    features = 6 * np.eye(4)[truth] + draw.normal(size=(400, 4))
    wrong = draw.random(400) < 0.3
    probabilities = 0.7 * np.eye(4)[np.where(wrong, (truth + 1) % 4, truth)] + 0.3 / 4
    assert (centroid_labels(features, probabilities) == truth).mean() > 0.98
    assert (probabilities.argmax(1) == truth).mean() < 0.75


def test_a_class_that_nothing_is_predicted_as_is_given_to_no_row():
    features = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    probabilities = np.array([[0.5, 0.1, 0.4], [0.5, 0.1, 0.4], [0.1, 0.5, 0.4], [0.1, 0.5, 0.4]])
    assert 2 not in centroid_labels(features, probabilities)


@pytest.mark.parametrize(
    ("features", "probabilities", "rounds", "said"),
    [
        ([[1.0, 2.0], [3.0, np.nan]], [[0.5, 0.5]] * 2, 2, "not finite"),
        ([[1.0, 2.0], [3.0, 4.0]], [[0.5, 0.5]], 2, "probabilities must be 2 rows"),
        ([[1.0, 2.0], [3.0, 4.0]], [[0.5, np.inf]] * 2, 2, "finite numbers"),
        ([[1.0, 2.0], [3.0, 4.0]], [[0.5, 0.5]] * 2, 0, "rounds=0 must be"),
        ([[1.0, 2.0], [3.0, 4.0]], [[0.5, 0.5]] * 2, True, "rounds=True must be"),
    ],
)
def test_what_is_refused(features, probabilities, rounds, said):
    with pytest.raises(ValueError, match=said):
        centroid_labels(features, probabilities, rounds)
