"""Proxy A-distance: 0 where domains are the same, 2 where they are apart, the same whatever their sizes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hftransfer.selection import domain_distance
from hftransfer.selection.domain_distance import explain_domain_distance, proxy_a_distance


def gaussians(moved: float, rows: int = 400, other_rows: int = 400, width: int = 5, seed: int = 0):
    draw = np.random.default_rng(seed)
    source, target = draw.normal(size=(rows, width)), draw.normal(size=(other_rows, width))
    target[:, 0] += moved
    return source, target


def test_equal_distributions_have_hardly_any_distance():
    distances = [proxy_a_distance(*gaussians(0, seed=seed), seed=seed) for seed in range(5)]
    assert np.mean(distances) < 0.1
    assert min(distances) >= 0


@pytest.mark.parametrize("moved", [1.0, 2.0, 4.0])
def test_gaussians_have_the_distance_of_the_best_classifier(moved):
    """Its error is that of the half-way point between the means."""
    best = 2 * (1 - 2 * norm.cdf(-moved / 2))
    assert proxy_a_distance(*gaussians(moved, 1500, 1500), seed=1) == pytest.approx(best, abs=0.1)


def test_far_domains_reach_two():
    assert proxy_a_distance(*gaussians(20), seed=0) == 2


def test_unequal_sizes_change_little():
    """A classifier that always says the larger domain is no better than chance."""
    assert proxy_a_distance(*gaussians(0, 1500, 60), seed=0) < 0.35
    assert proxy_a_distance(*gaussians(2, 1500, 150)) == pytest.approx(
        proxy_a_distance(*gaussians(2, 1500, 1500)), abs=0.15
    )


def test_scale_and_order_of_domains_do_not_matter():
    source, target = gaussians(1.5)
    scales = np.array([1e-4, 1.0, 1e5, 3.0, 1.0])
    distance = proxy_a_distance(source, target)
    assert proxy_a_distance(source * scales + 7, target * scales + 7) == pytest.approx(distance, abs=0.02)
    assert proxy_a_distance(target, source) == pytest.approx(distance, abs=0.05)


def test_half_precision_is_read_in_double():
    source, target = gaussians(1.5)
    halves = source.astype(np.float16), target.astype(np.float16)
    assert proxy_a_distance(*halves) == proxy_a_distance(*(half.astype(np.float64) for half in halves))


def test_larger_sets_are_thinned_by_the_seed(monkeypatch):
    monkeypatch.setattr(domain_distance, "ROWS", 100)
    source, target = gaussians(1.0)
    assert proxy_a_distance(source, target, 1) == proxy_a_distance(source, target, 1)
    assert len({proxy_a_distance(source, target, seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), "source_features are 2 wide and target_features 3: .* the same model"),
        (np.zeros((1, 2)), np.zeros((4, 2)), "source_features must be a matrix of at least two rows"),
        (np.zeros((4, 2)), np.full((4, 2), np.nan), "target_features are not finite"),
    ],
)
def test_wrong_features_are_refused(source, target, message):
    with pytest.raises(ValueError, match=message):
        proxy_a_distance(source, target)


def test_the_line_says_what_it_means():
    assert "hardly differ" in explain_domain_distance(0.2)
    assert "differ, and overlap" in explain_domain_distance(1.2)
    assert "will likely destroy structure" in explain_domain_distance(1.95)
