"""Estimates of the accuracy on the target: each by an independent computation, and what they do on made shifts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hftransfer import Predictions, estimate_accuracy, get_validator
from hftransfer.selection.calibration import fit_temperature
from hftransfer.selection.energy_distance import EnergyDistance
from hftransfer.selection.target_accuracy import AccuracyEstimate, TargetAccuracy

BANK = Path(__file__).parents[3] / "shared" / "bank"
CENTRES = 2.0 * np.eye(3)


def rows(frequencies, n, seed, centres=CENTRES):
    """Labels, and logits of the best classifier of three Gaussians where classes are equally frequent."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, n, p=frequencies)
    x = centres[labels] + draw.normal(size=(n, 3))
    return labels, x @ CENTRES.T


def predictions(frequencies, n=600, seed=0, **more):
    labels, source = rows([1 / 3] * 3, n, seed)
    target_labels, target = rows(frequencies, n, seed + 1000, **more)
    return Predictions(source, labels, target), float((target.argmax(1) == target_labels).mean())


def test_without_weights_single_estimates_are_those_of_the_validators():
    p, _ = predictions([0.5, 0.3, 0.2])
    temperature = fit_temperature(p.source_logits, p.source_labels)
    cool = Predictions(p.source_logits / temperature, p.source_labels, p.target_logits / temperature)
    single = TargetAccuracy(p)()
    right = (p.source_logits.argmax(1) == p.source_labels).mean()
    confidence, source_confidence = (q.max(1).mean() for q in (cool.target_probabilities, cool.source_probabilities))
    assert single["calibrated confidence"] == pytest.approx(confidence)
    assert single["difference of confidences"] == pytest.approx(right + confidence - source_confidence)
    assert single["thresholded confidence"] == pytest.approx(get_validator("atc").score(cool))
    pytest.importorskip("ot")
    assert single["transported confidence"] == pytest.approx(get_validator("cot").score(cool), abs=1e-3)


def test_weights_of_a_class_are_rows_that_are_there_more_often():
    """Source rows of class 0 twice, or its weight 2: the same estimates."""
    p, _ = predictions([0.5, 0.3, 0.2], n=200)
    often = np.concatenate([np.arange(200), np.flatnonzero(p.source_labels == 0)])
    repeated = Predictions(p.source_logits[often], p.source_labels[often], p.target_logits)
    weighted = TargetAccuracy(p, weights=np.array([2.0, 1.0, 1.0]))()
    assert weighted == pytest.approx(TargetAccuracy(repeated)(), abs=2e-3)
    assert weighted != pytest.approx(TargetAccuracy(p)(), abs=2e-3)


def test_counts_are_rows_that_are_there_more_often():
    p, _ = predictions([0.5, 0.3, 0.2], n=400)
    draw = np.random.default_rng(0)
    source, target = draw.integers(400, size=400), draw.integers(400, size=400)
    counted = TargetAccuracy(p)(np.bincount(source, minlength=400), np.bincount(target, minlength=400))
    drawn = TargetAccuracy(Predictions(p.source_logits[source], p.source_labels[source], p.target_logits[target]))()
    assert counted == pytest.approx(drawn, abs=1e-2)  # one step of Newton's for the temperature


def test_the_interval_holds_the_truth_where_only_class_frequencies_differ():
    inside, errors = [], []
    for seed in range(12):
        frequencies = np.array([0.7, 0.2, 0.1])
        p, truth = predictions(frequencies, n=300, seed=seed)
        estimate = estimate_accuracy(p, weights=3 * frequencies, resamples=50, seed=seed)
        inside.append(estimate.low <= truth <= estimate.high)
        errors.append(estimate.value - truth)
        assert estimate.known
        assert not estimate.reason
    assert np.mean(inside) > 0.6
    assert np.abs(errors).mean() < 0.04


def test_members_that_disagree_lower_the_estimate():
    p, _ = predictions([1 / 3] * 3)
    alone = estimate_accuracy(p, resamples=0)
    same = estimate_accuracy(p, members=[p.target_probabilities] * 2, resamples=0)
    other = estimate_accuracy(p, members=[p.target_probabilities, np.roll(p.target_probabilities, 1, 1)], resamples=0)
    assert other.value < alone.value - 0.03
    assert other.low < same.low


def test_the_same_seed_gives_the_same_interval_and_more_rows_a_narrower_one():
    p, _ = predictions([1 / 3] * 3, n=200)
    many, _ = predictions([1 / 3] * 3, n=3000)
    a, b = estimate_accuracy(p, seed=1), estimate_accuracy(p, seed=1)
    assert a == b
    c = estimate_accuracy(many, resamples=50)
    assert c.high - c.low < a.high - a.low


def test_what_is_printed():
    assert str(AccuracyEstimate(0.781, 0.742, 0.823, True, "")) == "0.78 (0.74 to 0.82)"
    assert str(AccuracyEstimate(0.5, 0.1, 0.9, False, "too wide.")) == "cannot tell: too wide."


def test_what_does_not_fit_is_refused():
    p, _ = predictions([1 / 3] * 3, n=50)
    for weights in ([1.0, 1.0], [1.0, -1.0, 1.0], [np.nan, 1.0, 1.0]):
        with pytest.raises(ValueError, match="weights must be 3 finite numbers"):
            estimate_accuracy(p, weights=np.array(weights))
    with pytest.raises(ValueError, match="weights are 0"):
        estimate_accuracy(p, weights=np.zeros(3))
    with pytest.raises(ValueError, match="A member has shape"):
        estimate_accuracy(p, members=[p.target_probabilities[:10]])


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 3), (3, 200)])
def test_very_few_rows_give_a_number(n, m):
    draw = np.random.default_rng(0)
    p = Predictions(draw.normal(size=(n, 3)), draw.integers(3, size=n), draw.normal(size=(m, 3)))
    estimate = estimate_accuracy(p, weights=np.array([0.1, 1.0, 10.0]), resamples=30)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def blurred(strength, seed=0):
    """A target whose inputs are noisier and moved: more is wrong there than the classifier thinks."""
    labels, source = rows([1 / 3] * 3, 600, seed)
    draw = np.random.default_rng(seed + 1000)
    target_labels = draw.integers(3, size=600)
    target = (
        CENTRES[target_labels] + strength * draw.normal(size=(600, 3)) + (strength - 1) * np.eye(3)[0]
    ) @ CENTRES.T
    return Predictions(source, labels, target), float((target.argmax(1) == target_labels).mean())


def test_a_gap_that_class_weights_explain_is_none_and_another_lowers_the_estimate():
    frequencies = np.array([0.7, 0.2, 0.1])
    shifted, _ = predictions(frequencies, seed=1)
    assert TargetAccuracy(shifted, 3 * frequencies).unexplained_gap() < 0.05
    assert TargetAccuracy(shifted).unexplained_gap() > 0.15
    moved, truth = blurred(2.0)
    accuracy = TargetAccuracy(moved)
    gap, average = accuracy.unexplained_gap(), np.mean(list(accuracy().values()))
    estimate = estimate_accuracy(moved, resamples=30)
    assert gap > 0.1
    assert estimate.value == pytest.approx(average - gap / 2)
    assert estimate.low <= truth < average
    assert abs(estimate.value - truth) < abs(average - truth)


def test_the_unexplained_gap_is_about_the_share_of_rows_that_moved():
    """Certain predictions of which a share of the target's rows have the other class."""
    labels = np.repeat([0, 1], 500)
    for share in (0.1, 0.3):
        target = np.where(np.arange(1000) < 1000 * (0.5 + share), 0, 1)
        p = Predictions(20 * np.eye(2)[labels], labels, 20 * np.eye(2)[target])
        assert TargetAccuracy(p).unexplained_gap() == pytest.approx(np.sqrt(2 * np.sqrt(2)) * share, abs=0.06)


def test_it_says_cannot_tell_where_predictions_are_of_another_world():
    moved, _ = blurred(8.0)
    estimate = estimate_accuracy(moved, resamples=30)
    assert not estimate.known
    assert "in a way that class frequencies do not explain" in str(estimate)
    few = Predictions([[1.0, 0.0], [0.0, 0.3], [0.1, 0.0]], [0, 1, 1], [[1.0, 0.0], [0.0, 1.0]])
    assert "the single estimates and resampled rows differ" in str(estimate_accuracy(few))


def test_chance_shows_more_where_weights_leave_fewer_rows():
    draw = np.random.default_rng(0)
    distance = EnergyDistance(draw.normal(size=(60, 2)), draw.normal(size=(60, 2)))
    few = np.repeat([1.0, 0.01], [6, 54])
    assert distance.by_chance(weights=np.ones(60)) == pytest.approx(distance.by_chance())
    assert distance.by_chance(weights=few) > 2 * distance.by_chance()


@pytest.mark.skipif(not BANK.is_dir(), reason="stored predictions are not here")
def test_stored_predictions_of_reviews():
    """Reviews have no label shift; kitchen to books loses six to nine points."""
    for path in sorted(BANK.glob("*-kitchen.source-only*.npz")) + sorted(BANK.glob("kitchen-*.source-only*.npz")):
        with np.load(path) as file:
            p = Predictions(
                file["source_validation_logits"], file["source_validation_labels"], file["target_train_logits"]
            )
            truth = (file["target_test_logits"].argmax(1) == file["target_test_labels_oracle"]).mean()
        estimate = estimate_accuracy(p, resamples=50)
        assert estimate.low <= truth <= estimate.high
        assert estimate.value == pytest.approx(truth, abs=0.05)
