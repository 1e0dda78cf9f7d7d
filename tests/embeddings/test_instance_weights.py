"""Instance weights: corrections, what they do for a classifier, and when they are refused."""

from __future__ import annotations

import numpy as np
import pytest
from shifted_blobs import curved_shift, gaussians, straight_shift
from sklearn.linear_model import LogisticRegression

from hftransfer import effective_sample_size, get_validator, instance_weights
from hftransfer.embeddings.instances.domain_classifier import cross_fitted_ratio
from hftransfer.embeddings.instances.weight_corrections import corrected_weights, refuse_few_rows

METHODS = ("discriminator", "kmm", "kliep", "rulsif")


def test_corrections_come_in_order():
    """Mean 1, cap, power, mean 1; by hand."""
    weights = np.array([0.1, 0.2, 0.3, 0.4, 9.0])
    capped = np.minimum(weights / 2.0, 3.0)
    expected = np.sqrt(capped) / np.sqrt(capped).mean()
    np.testing.assert_allclose(corrected_weights(weights, clip=3.0, flatten=0.5), expected)
    np.testing.assert_allclose(corrected_weights(1e300 * weights, clip=3.0, flatten=0.5), expected)
    np.testing.assert_allclose(corrected_weights(weights, clip=None, flatten=0.0), np.ones(5))


def test_effective_sample_size_is_kishs():
    weights = np.random.default_rng(0).exponential(size=50)
    assert effective_sample_size(weights) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert effective_sample_size(weights * 1e200) == pytest.approx(effective_sample_size(weights))
    assert effective_sample_size(np.repeat([2.0, 0.0], [7, 13])) == pytest.approx(7)


def test_ten_percent_of_the_rows_is_the_least():
    refuse_few_rows(np.repeat([1.0, 0.0], [10, 90]))
    with pytest.raises(ValueError, match=r"rest on 9.0 of 100 source rows \(9.0 %\), and 10 % are the least"):
        refuse_few_rows(np.repeat([1.0, 0.0], [9, 91]))


@pytest.mark.parametrize("method", METHODS)
def test_weights_follow_a_known_ratio(method):
    source, target, truth = gaussians(400, 400, 2, 1.0)
    weights = instance_weights(source, target, method, clip=None, flatten=1.0)
    assert np.corrcoef(weights, truth)[0, 1] > 0.7
    assert weights.mean() == pytest.approx(1.0)


def test_the_discriminators_weights_are_those_of_the_validators():
    """One rule: standardised features change nothing of a ratio whose classifier standardises them again."""
    source, target, _ = gaussians(150, 100, 3, 1.0)
    weights = instance_weights(source, target, clip=None, flatten=1.0)
    ratio = cross_fitted_ratio(source, target)
    np.testing.assert_allclose(weights, ratio / ratio.mean(), rtol=1e-3)


def test_validators_take_weights_of_any_estimate():
    source, target, _ = gaussians(150, 100, 2, 1.0)
    weights = instance_weights(source, target, "rulsif")
    probabilities, labels = np.tile([0.7, 0.3], (150, 1)), (source[:, 0] > 0).astype(int)
    risk = get_validator("importance_weighted").compute(probabilities, labels, weights)
    assert risk == pytest.approx(-(weights * (labels == 1)).mean())


@pytest.mark.parametrize("shift", [curved_shift, straight_shift])
@pytest.mark.parametrize("method", METHODS)
def test_a_weighted_classifier_is_no_worse(method, shift):
    """Mean accuracy over five seeds, within half a point or better: where a line fits locally, and where it fits
    everywhere and weights have nothing to mend."""
    gains = []
    for seed in range(5):
        source, labels, target, target_labels = shift(seed)
        weights = instance_weights(source, target, method)
        plain = LogisticRegression().fit(source, labels)
        weighted = LogisticRegression().fit(source, labels, sample_weight=weights)
        gains.append(weighted.score(target, target_labels) - plain.score(target, target_labels))
    assert np.mean(gains) > -0.005


def test_the_shift_can_be_gained_from():
    """The same data are a test only if weights matter: those of the discriminator, not flattened, gain points."""
    gains = []
    for seed in range(5):
        source, labels, target, target_labels = curved_shift(seed)
        weights = instance_weights(source, target, flatten=1.0)
        plain, weighted = (LogisticRegression().fit(source, labels, sample_weight=w) for w in (None, weights))
        gains.append(weighted.score(target, target_labels) - plain.score(target, target_labels))
    assert np.mean(gains) > 0.02


@pytest.mark.parametrize(("dim", "rows"), [(1, 50), (2, 300), (60, 300)])
@pytest.mark.parametrize("method", METHODS)
def test_domains_without_overlap_are_refused(method, dim, rows):
    source, target, _ = gaussians(rows, rows, dim, 8.0)
    with pytest.raises(ValueError, match="do not overlap: a classifier tells .* align the domains instead"):
        instance_weights(source, target, method)


def test_little_overlap_is_refused_before_flattening_hides_it():
    """A classifier errs on every tenth row or so; what is left of the source after weighing is too little."""
    source, target, truth = gaussians(500, 500, 1, 2.8)
    assert effective_sample_size(truth) < 0.1 * 500
    with pytest.raises(ValueError, match="the weights rest on .* source rows"):
        instance_weights(source, target, "kmm", flatten=0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kmmm"}, "method='kmmm' must be one of .*Did you mean 'kmm'"),
        ({"clip": 0.5}, "clip=0.5 must be at least 1"),
        ({"flatten": 1.5}, "flatten=1.5 must be at least 0 and at most 1"),
        ({"flatten": "half"}, "flatten='half' must be a number"),
        ({"clip": True}, "clip=True must be a number"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"bandwidth": 1.0}, "method='discriminator' has no setting 'bandwidth'"),
        ({"method": "kliep", "alpha": 0.5}, "method='kliep' has no setting 'alpha'; its settings are bandwidth"),
    ],
)
def test_settings_that_are_refused(settings, message):
    source, target, _ = gaussians(60, 60, 2, 0.5)
    with pytest.raises(ValueError, match=message):
        instance_weights(source, target, **settings)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0, -0.1], "row 1 has -0.1"), ([np.nan, 1], "row 0 has nan"), ([0, 0], "all 0"), ([[1.0]], "one a row")],
)
def test_what_is_no_weight(weights, message):
    with pytest.raises(ValueError, match=message):
        effective_sample_size(weights)


def test_constant_columns_are_no_obstacle():
    source, target, _ = gaussians(100, 100, 2, 0.5)
    padded = (np.column_stack([x, np.ones(100)]) for x in (source, target))
    np.testing.assert_allclose(instance_weights(*padded), instance_weights(source, target), rtol=1e-3)
