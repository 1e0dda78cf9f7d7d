"""Density ratios: against independent solvers in double precision, and against ratios that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.distance import cdist, pdist
from shifted_blobs import gaussians

from hftransfer.embeddings.instances.gaussian_kernel import gaussian_kernel, median_distance
from hftransfer.embeddings.instances.kernel_mean_matching import kernel_mean_matching
from hftransfer.embeddings.instances.kliep import kliep
from hftransfer.embeddings.instances.relative_ratio import rulsif


def test_the_kernel_and_its_bandwidth():
    source, target, _ = gaussians(20, 30, 3, 1.0)
    np.testing.assert_allclose(gaussian_kernel(source, target, 0.7), np.exp(-(cdist(source, target) ** 2) / 0.98))
    assert median_distance(source, target) == pytest.approx(np.median(pdist(np.concatenate([source, target]))))
    with pytest.raises(ValueError, match="Most rows of source and target are the same"):
        median_distance(np.zeros((5, 2)), np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("bound", "tolerance", "ridge"), [(1000.0, None, 1.0), (2.0, 0.5, 0.3), (1000.0, 0.05, 5.0), (1.2, 0.01, 0.5)]
)
def test_kernel_mean_matching_is_the_minimum_of_its_program(bound, tolerance, ridge):
    """Against SciPy's SLSQP; the last two cases are held by the bound on the sum, the second and the last by B."""
    source, target, _ = gaussians(25, 40, 2, 1.0)
    n, sigma = 25, 1.3
    kernel = np.exp(-(cdist(source, source) ** 2) / (2 * sigma**2)) + ridge * np.eye(n)
    kappa = n / 40 * np.exp(-(cdist(source, target) ** 2) / (2 * sigma**2)).sum(1)
    slack = (np.sqrt(n) - 1) / np.sqrt(n) if tolerance is None else tolerance

    def value(w):
        return 0.5 * w @ kernel @ w - kappa @ w

    expected = minimize(
        value,
        np.ones(n),
        jac=lambda w: kernel @ w - kappa,
        method="SLSQP",
        bounds=[(0, bound)] * n,
        constraints=[
            {"type": "ineq", "fun": lambda w: n * (1 + slack) - w.sum()},
            {"type": "ineq", "fun": lambda w: w.sum() - n * (1 - slack)},
        ],
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    got = kernel_mean_matching(source, target, sigma, bound, tolerance, ridge)
    assert value(got) == pytest.approx(expected.fun, abs=1e-4)
    np.testing.assert_allclose(got, expected.x, atol=2e-2)
    assert got.min() >= 0
    assert got.max() <= bound
    assert abs(got.sum() - n) <= n * slack * (1 + 1e-4)


def test_kernel_mean_matching_matches_the_mean_in_feature_space():
    """Without a ridge, the distance of the means all but goes away; it does not where all rows count 1."""
    source, target, _ = gaussians(150, 150, 2, 1.0)
    weights = kernel_mean_matching(source, target, 1.0, ridge=0.0)

    def squared_distance(w):
        k = lambda a, b: gaussian_kernel(a, b, 1.0)  # noqa: E731
        n, m = len(source), len(target)
        return w @ k(source, source) @ w / n**2 - 2 * w @ k(source, target).sum(1) / (n * m) + k(target, target).mean()

    assert squared_distance(weights) < 0.05 * squared_distance(np.ones(150))


def test_more_rows_are_matched_in_blocks():
    source, target, truth = gaussians(1100, 300, 1, 1.0)
    weights = kernel_mean_matching(source, target)
    assert weights.shape == (1100,)
    assert np.corrcoef(weights, truth)[0, 1] > 0.9


def test_kliep_has_the_greatest_likelihood():
    """Against expectation maximisation, whose rate of growth bounds what is left to gain."""
    source, target, _ = gaussians(80, 60, 2, 1.0)
    sigma = 1.0
    weights = kliep(source, target, sigma)
    norm = np.exp(-(cdist(source, target) ** 2) / (2 * sigma**2)).mean(0)
    on_source, on_target = (np.exp(-(cdist(x, target) ** 2) / (2 * sigma**2)) / norm for x in (source, target))
    shares = np.full(60, 1 / 60)
    for _ in range(20_000):
        growth = (on_target / (on_target @ shares)[:, None]).mean(0)
        if growth.max() - 1 < 1e-5:
            break
        shares = shares * growth
    np.testing.assert_allclose(weights, on_source @ shares, atol=0.02)
    assert weights.mean() == pytest.approx(1.0)


def test_rulsif_is_its_closed_form():
    source, target, _ = gaussians(50, 40, 3, 0.8)
    alpha, sigma, ridge = 0.3, 1.1, 0.05
    on_source, on_target = (np.exp(-(cdist(x, target) ** 2) / (2 * sigma**2)) for x in (source, target))
    second = sum(alpha / 40 * np.outer(k, k) for k in on_target) + sum(
        (1 - alpha) / 50 * np.outer(k, k) for k in on_source
    )
    theta = np.linalg.inv(second + ridge * np.eye(40)) @ on_target.mean(0)
    np.testing.assert_allclose(
        rulsif(source, target, alpha, sigma, ridge), np.maximum(on_source @ theta, 0), rtol=1e-6, atol=1e-9
    )


def test_the_relative_ratio_is_bounded_and_follows_the_known_one():
    source, target, ratio = gaussians(600, 600, 1, 1.5)
    for alpha in (0.1, 0.5):
        weights = rulsif(source, target, alpha)
        assert weights.max() < 1.3 / alpha
        assert np.corrcoef(weights, ratio / (alpha * ratio + 1 - alpha))[0, 1] > 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: rulsif(s, t, alpha=1.0), "alpha=1.0 must be at least 0 and below 1"),
        (lambda s, t: rulsif(s, t, ridge=0), "ridge=0 must be positive"),
        (lambda s, t: rulsif(s, t, bandwidth="wide"), "bandwidth='wide' must be a number"),
        (lambda s, t: kliep(s, t, bandwidth=-1), "bandwidth=-1 must be"),
        (lambda s, t: kernel_mean_matching(s, t, ridge=-1), "ridge=-1 must be"),
        (lambda s, t: kernel_mean_matching(s, t, bound=0.1), "bound=0.1 leaves no weights with a sum of"),
        (lambda s, t: kliep(s, t[:, :1]), "source_features are 2 wide and target_features 1"),
    ],
)
def test_refusals(call, message):
    source, target, _ = gaussians(40, 40, 2, 1.0)
    with pytest.raises(ValueError, match=message):
        call(source, target)
