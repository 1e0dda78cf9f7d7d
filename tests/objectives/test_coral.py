"""CORAL: value, weights, the two ways to the same number, TLlib's scale."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make
from kernel_cases import Largest
from moment_cases import covariance, gradients, moment, weighted
from test_adaptation import FULL, source_only
from toy import SEEDS, fit, train

from hftransfer.objectives.moments import covariance_distance, covariance_factor, shares


def coral(inputs, mean_weight: float = 0.0) -> float:
    """The paper's formula, plus the mean squared difference of the means."""
    (x, y), w = domains(inputs), array(inputs["source_weights"])
    d, ones = x.shape[1], np.ones(len(y))
    value = ((covariance(x, w) - covariance(y, ones)) ** 2).sum() / (4 * d**2)
    return value + mean_weight * ((moment(x, w, 1) - moment(y, ones, 1)) ** 2).mean()


def test_value_is_the_definition():
    sizes = ((7, 5, 6), (4, 9, 6), (12, 12, 3), (5, 4, 20), (6, 6, 13))
    for size, mean_weight, make_batch in itertools.product(sizes, (0.0, 0.7), (batch, weighted)):
        inputs = make_batch(*size)
        value = call(make("coral", size[2], mean_weight=mean_weight), inputs).item()
        assert value == pytest.approx(coral(inputs, mean_weight), rel=1e-5), (size, mean_weight)


def test_tllib_has_four_times_the_value():
    """That library: mean squared difference of NumPy's covariances' entries, plus that of the means."""
    for n in (3, 8, 20):
        inputs = batch(n, n)
        x, y = domains(inputs)
        expected = ((np.cov(x.T) - np.cov(y.T)) ** 2).mean() + ((x.mean(0) - y.mean(0)) ** 2).mean()
        assert 4 * call(make("coral", mean_weight=0.25), inputs).item() == pytest.approx(expected, rel=1e-5), n


@pytest.mark.parametrize("width", [3, 40])  # fewer columns than rows, and more
def test_gradient(width):
    module, inputs = make("coral", width, mean_weight=0.5), weighted(4, 3, width, dtype=torch.float64)
    forward = lambda x, y: module(x, y, inputs["source_weights"])  # noqa: E731
    assert torch.autograd.gradcheck(forward, (inputs["source_features"], inputs["target_features"]))


def test_few_wide_rows_need_no_matrix_of_their_width():
    """Rows of both domains, not columns, are what the largest tensor is made of; the value is the same."""
    inputs = weighted(8, 6, 400)
    with Largest() as made:
        value = call(make("coral", 400, mean_weight=1.0), inputs)
        gradients(value, inputs)
    assert made.entries <= 14 * 400
    assert value.item() == pytest.approx(coral(inputs, 1.0), rel=1e-5)


@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-4])
def test_no_digits_are_lost_between_like_domains(apart):
    """Against plain float32 matrices, whose difference cancels: at least as good, to a factor of the rounding."""
    x, noise = torch.randn(2, 16, 128, generator=torch.Generator().manual_seed(0))
    y, w = x + apart * noise, torch.ones(16)
    exact = ((np.cov(array(x).T) - np.cov(array(y).T)) ** 2).sum()
    plain = (
        (covariance_factor(x).T @ covariance_factor(x) - covariance_factor(y).T @ covariance_factor(y))
        .square()
        .sum()
        .item()
    )
    assert abs(covariance_distance(x, y, w).item() - exact) < 2 * abs(plain - exact) + 1e-5 * exact


def test_weights_have_no_gradient_and_one_heavy_row_no_spread():
    inputs = batch(1, 4)
    inputs["source_weights"].requires_grad_()
    value = call(make("coral", mean_weight=1.0), inputs)
    assert torch.autograd.grad(value, inputs["source_weights"], allow_unused=True) == (None,)
    x = torch.randn(3, 5, requires_grad=True)
    alone = covariance_factor(x, torch.tensor([1.0, 0.0, 0.0]))
    assert alone.abs().max() == 0
    assert torch.isfinite(torch.autograd.grad(alone.sum(), x)[0]).all()
    assert shares(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("seeds", SEEDS)
def test_covariances_come_together_and_the_target_gains(seeds):
    """The paper's form leaves the means where they are, so a classifier may still tell the domains apart."""

    def apart(objectives, seed):
        module, held_out, _ = fit(objectives, seed)
        x, y = (np.cov(array(module.model.body(rows)).T) for rows, _ in held_out)
        return ((x - y) ** 2).sum() / (y**2).sum()

    for seed in seeds:
        assert apart({"coral": FULL}, seed) < 0.5 * apart(None, seed)
        before, after = source_only(seed, 0.1), train({"coral": FULL}, seed)
        assert after.target_accuracy > before.target_accuracy + 0.02
        assert after.source_accuracy > before.source_accuracy - 0.03
