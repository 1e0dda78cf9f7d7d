"""MMD by random Fourier features: value, what it approximates, weights, bandwidth, state, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import MULTIPLIERS, array, batch, call, distances, domains, make
from kernel_cases import Largest, kernel_mmd, mmd
from moment_cases import weighted


def features(module, z, weights, bandwidth, kernels) -> np.ndarray:
    """φ of all rows, entry by entry: the average over a kernel's frequencies, then over kernels."""
    g, w = array(module.directions), np.concatenate([weights, np.ones(len(z) - len(weights))])
    if bandwidth == "mean":
        bandwidth = w @ distances(z) @ w / (w.sum() * (w.sum() - 1))
    columns = []
    for k, mu in enumerate(MULTIPLIERS[kernels]):
        mine = g[:, k::kernels] * np.sqrt(2 / (mu * bandwidth))
        share = np.sqrt(1 / (kernels * mine.shape[1]))
        columns += [share * np.cos(z @ mine), share * np.sin(z @ mine)]
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("bandwidth", ["mean", 3.0])
@pytest.mark.parametrize(("kernels", "frequencies"), [(1, 1), (2, 7), (5, 5), (5, 512)])
def test_value_is_the_definition(estimator, bandwidth, kernels, frequencies):
    module = make("mmd_rff", estimator=estimator, bandwidth=bandwidth, kernels=kernels, frequencies=frequencies)
    for inputs in (batch(), weighted()):
        w = array(inputs["source_weights"])
        phi = features(module, np.concatenate(domains(inputs)), w, bandwidth, kernels)
        np.testing.assert_allclose((phi**2).sum(1), 1)
        assert call(module, inputs).item() == pytest.approx(kernel_mmd(phi @ phi.T, w, estimator), abs=2e-6)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("kernels", [1, 5])
def test_it_approaches_mmd_with_more_frequencies(estimator, kernels):
    inputs = batch(12, 9)
    exact = call(make("mmd", estimator=estimator, kernels=kernels), inputs).item()
    errors = []
    for frequencies in (50, 50_000):
        modules = [make("mmd_rff", estimator=estimator, kernels=kernels, frequencies=frequencies) for _ in range(5)]
        for seed, module in enumerate(modules):
            module.directions.normal_(generator=torch.Generator().manual_seed(seed))
        errors.append(np.mean([abs(call(module, inputs).item() - exact) for module in modules]))
    assert exact > 0.05
    assert errors[1] < 0.002
    assert errors[1] < errors[0] / 10  # the error falls with the root of their number


def test_median_bandwidth_is_that_of_mmd():
    inputs = batch()
    module = make("mmd_rff", bandwidth="median", frequencies=50_000)
    exact = mmd(*domains(inputs), bandwidth="median")
    assert call(module, inputs).item() == pytest.approx(exact, abs=0.005)


def test_it_makes_nothing_quadratic():
    module = make("mmd_rff", width=8, frequencies=64)
    x, y = (torch.randn(4000, 8, requires_grad=True) for _ in range(2))
    with Largest() as largest:
        module(x, y, torch.ones(4000)).backward()
    assert largest.entries == 4000 * 64
