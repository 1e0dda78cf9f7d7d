"""Label shift after training: estimates against known frequencies, and a test that knows when not to be believed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from hftransfer.selection.calibration import calibrated, calibration_error, fit_temperature
from hftransfer.selection.class_frequencies import bbse, estimate_label_shift, mlls, resampled_mlls
from hftransfer.selection.energy_distance import EnergyDistance
from hftransfer.selection.explained_gap import effective_rows_per_class
from hftransfer.selection.model_predictions import Predictions

BANK = Path(__file__).parents[3] / "shared" / "bank"


def drawn(
    frequencies, rows: int, seed: int, moved: float = 0.0, blurred: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the logits of a calibrated classifier of Gaussians; `moved` and `blurred` change the inputs."""
    draw = np.random.default_rng(seed)
    classes = len(frequencies)
    labels = draw.choice(classes, rows, p=frequencies)
    x = 2 * np.eye(classes)[labels] + draw.normal(size=(rows, classes))
    x[:, 0] += moved
    x *= blurred
    return labels, 2 * x  # log-odds of unit Gaussians whose means lie 2 along each axis


def predictions(target, rows: int = 1000, seed: int = 0, **changes: float) -> tuple[Predictions, np.ndarray]:
    labels, source = drawn([1 / 3] * 3, 800, seed)
    target_labels, target_logits = drawn(target, rows, seed + 100, **changes)
    return Predictions(source, labels, target_logits), target_labels


@pytest.mark.parametrize("method", ["mlls", "bbse"])
def test_known_frequencies_are_found(method):
    for target in ([0.7, 0.2, 0.1], [0.1, 0.3, 0.6]):
        p, labels = predictions(target)
        estimate = estimate_label_shift(p, method)
        assert estimate.target_frequencies == pytest.approx(np.bincount(labels) / len(labels), abs=0.06)
        assert estimate.target_frequencies.sum() == pytest.approx(1)
        assert estimate.believed
        assert str(estimate).startswith("label shift believed")


def test_the_correction_helps_where_it_is_believed():
    for seed in range(5):
        p, labels = predictions([0.8, 0.15, 0.05], seed=seed)
        estimate = estimate_label_shift(p, resamples=0)
        plain = (p.target_logits.argmax(1) == labels).mean()
        assert (estimate.corrected(p.target_logits).argmax(1) == labels).mean() > plain
        by_bias = (p.target_logits / estimate.temperature + estimate.bias()).argmax(1)
        assert (by_bias == estimate.corrected(p.target_logits).argmax(1)).all()


def test_no_shift_is_no_correction():
    for seed in range(10):
        p, _ = predictions([1 / 3] * 3, seed=seed)
        assert not estimate_label_shift(p, resamples=0).believed


def test_a_shift_of_inputs_is_not_believed():
    """Class frequencies as before: rows moved towards one class, or all rows less certain. The gap is there, and no
    weights of classes explain it to the end."""
    for changes in ({"moved": 3.0}, {"blurred": 0.4}, {"moved": 2.0, "blurred": 0.5}):
        p, _ = predictions([1 / 3] * 3, **changes)
        estimate = estimate_label_shift(p, resamples=0)
        assert estimate.gap > 3 * estimate.gap_by_chance, changes
        assert not estimate.believed, changes
        assert "not believed" in str(estimate), changes


def test_with_a_few_rows_a_class_nothing_is_believed():
    """Thirty rows of ten classes: weights explain any gap, whatever the inputs did."""
    passed = 0
    for seed in range(20):
        labels, source = drawn([0.1] * 10, 30, seed)
        _, target = drawn([0.1] * 10, 600, seed + 100, moved=2.0)
        estimate = estimate_label_shift(Predictions(source, labels, target), resamples=0)
        passed += estimate.above_chance and estimate.explained >= 0.5
        assert not estimate.believed
        assert f"worth {estimate.rows_per_class:.1f} a class" in str(estimate)
    assert passed >= 5  # what would be believed without counting rows
    weights = np.array([0.2, 1.0, 3.0])
    labels = np.array([0] * 10 + [1] * 10 + [2] * 5)
    assert effective_rows_per_class(weights, labels) == pytest.approx((2 + 10 + 15) ** 2 / (0.4 + 10 + 45) / 3)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = []
    for seed in range(20):
        p, _ = predictions([0.6, 0.3, 0.1], rows=500, seed=seed)
        low, high = estimate_label_shift(p, resamples=40, seed=seed).intervals.T
        inside += list((low <= [0.6, 0.3, 0.1]) & ([0.6, 0.3, 0.1] <= high))
    assert 0.6 < np.mean(inside) <= 1  # the middle 80 %, of 60


def test_em_equals_a_plain_loop():
    draw = np.random.default_rng(0)
    p, prior = draw.dirichlet(np.ones(4), 50), np.array([0.4, 0.3, 0.2, 0.1])
    pi = prior.copy()
    for _ in range(3000):
        responsibilities = [[pi[k] * row[k] / prior[k] for k in range(4)] for row in p]
        pi = np.mean([np.array(r) / sum(r) for r in responsibilities], 0)
    assert mlls(p, prior) == pytest.approx(pi, abs=1e-5)


def test_samples_all_at_once_equal_each_by_itself():
    """Some converge at once, others never quite: those at the edge, where a class is not there."""
    draw = np.random.default_rng(0)
    p = np.concatenate([draw.dirichlet(np.ones(4), 40), draw.dirichlet([9.0, 3.0, 1.0, 0.1], 40)])
    priors, rows = draw.dirichlet(np.full(4, 5.0), 12), draw.integers(80, size=(12, 80))
    rows[0] = np.arange(80)
    counts = np.stack([np.bincount(sample, minlength=80) for sample in rows])
    found = resampled_mlls(p, priors, counts)
    for sample, prior, frequencies in zip(rows, priors, found, strict=True):
        pi = prior / prior.sum()
        for _ in range(2000):
            joint = p[sample] * (pi / prior)
            pi = (joint / joint.sum(1, keepdims=True)).mean(0)
        np.testing.assert_allclose(frequencies, pi, rtol=0, atol=1e-6)
        assert frequencies.sum() == pytest.approx(1)


def test_bbse_without_noise_is_exact_and_with_strength_stays_near_the_source():
    confusion = np.array([[0.9, 0.2], [0.1, 0.8]])  # predicted given true
    labels = np.repeat([0, 1], 50)
    source = confusion.T[labels]
    target = confusion.T[np.repeat([0, 1], [20, 80])]
    assert bbse(source, labels, target, strength=0) == pytest.approx([0.2, 0.8], abs=1e-6)
    assert 0.2 < bbse(source, labels, target, strength=0.1)[0] < 0.5
    assert bbse(source, labels, target, strength=1e9) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_energy_distance_equals_a_double_loop():
    draw = np.random.default_rng(0)
    x, y, w = draw.normal(size=(7, 2)), draw.normal(size=(5, 2)), draw.uniform(size=7)

    def mean(a, b, u, v):
        return sum(p * q * np.linalg.norm(i - j) for i, p in zip(a, u, strict=True) for j, q in zip(b, v, strict=True))

    u, v = w / w.sum(), np.full(5, 0.2)
    assert EnergyDistance(x, y)(w) == pytest.approx(2 * mean(x, y, u, v) - mean(x, x, u, u) - mean(y, y, v, v))


def test_chance_is_exceeded_as_often_as_its_quantile_says():
    exceeded = []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        distance = EnergyDistance(draw.normal(size=(30, 2)), draw.normal(size=(50, 2)))
        exceeded.append(distance() > distance.by_chance(draws=100, seed=seed, quantile=0.8))
    assert 0.05 < np.mean(exceeded) < 0.4


def test_temperature_is_that_of_the_labels():
    """Labels drawn from softmax(z): logits that are three times too large get T = 3."""
    draw = np.random.default_rng(0)
    z = draw.normal(size=(20000, 3))
    labels = np.array([draw.choice(3, p=row) for row in calibrated(z, 1.0)])
    assert fit_temperature(3 * z, labels) == pytest.approx(3, rel=0.05)
    assert fit_temperature(z / 2, labels) == pytest.approx(0.5, rel=0.05)
    assert fit_temperature([[3.0, 0.0], [0.0, 1.0]], [0, 1]) == 1.0
    first, second = (3 * z[:500], labels[:500]), (z[500:1000], labels[500:1000])
    both = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
    assert fit_temperature(*both, weights=np.repeat([2.0, 0.0], 500)) == pytest.approx(fit_temperature(*first))
    assert calibration_error(calibrated(z, 1.0), labels) < 0.02 < calibration_error(calibrated(3 * z, 1.0), labels)


def test_calibration_error_equals_scikit_learn_s_curve():
    draw = np.random.default_rng(0)
    p = draw.uniform(0.5, 1, size=400)
    labels = (draw.uniform(size=400) < 0.7).astype(int)
    probabilities = np.stack([1 - p, p], 1)
    share, confidence = calibration_curve(labels, p, n_bins=10)
    counts = np.histogram(p, np.linspace(0, 1, 11))[0]
    expected = (np.abs(share - confidence) * counts[counts > 0]).sum() / 400
    assert calibration_error(probabilities, labels, bins=10) == pytest.approx(expected)


def test_an_unknown_method_is_refused():
    p, _ = predictions([0.5, 0.3, 0.2], rows=20)
    with pytest.raises(ValueError, match="method='em' must be one of mlls, bbse"):
        estimate_label_shift(p, "em")


@pytest.mark.skipif(not BANK.is_dir(), reason="stored predictions are not here")
def test_stored_predictions_of_real_shifts_are_judged_right():
    """Press releases to PubMed is a label shift; the sample corpus and product reviews are not."""
    verdicts = {}
    for path in sorted(BANK.glob("*source-only*.npz")):
        with np.load(path) as file:
            p = Predictions(
                file["source_validation_logits"], file["source_validation_labels"], file["target_train_logits"]
            )
        verdicts.setdefault(os.path.basename(path).split(".")[0], []).append(
            estimate_label_shift(p, resamples=0).believed
        )
    assert verdicts == {
        "press-pubmed": [True] * 3,
        "sample": [False] * 2,
        "books-kitchen": [False] * 2,
        "kitchen-books": [False] * 2,
    }
