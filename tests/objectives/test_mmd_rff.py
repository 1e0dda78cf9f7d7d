"""MMD by random Fourier features: value, what it approximates, weights, bandwidth, state, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import MULTIPLIERS, array, batch, call, distances, make
from kernel_cases import Largest, kernel_matrix, kernel_mmd


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
@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_the_definition(estimator, bandwidth, kernels, frequencies, weighted):
    inputs = batch()
    if weighted:
        inputs["source_weights"] = 0.3 + torch.rand(7, generator=torch.Generator().manual_seed(1))
    module = make("mmd_rff", estimator=estimator, bandwidth=bandwidth, kernels=kernels, frequencies=frequencies)
    x, y, w = (array(inputs[name]) for name in ("source_features", "target_features", "source_weights"))
    phi = features(module, np.concatenate([x, y]), w, bandwidth, kernels)
    np.testing.assert_allclose((phi**2).sum(1), 1)
    value = call(module, inputs)
    assert value.shape == ()
    assert value.item() == pytest.approx(kernel_mmd(phi @ phi.T, w, estimator), abs=2e-6)
    if estimator == "biased":
        gap = w @ phi[:7] / w.sum() - phi[7:].mean(0)
        assert value.item() == pytest.approx(gap @ gap, abs=2e-6)


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
    x, y = array(inputs["source_features"]), array(inputs["target_features"])
    module = make("mmd_rff", bandwidth="median", frequencies=50_000)
    exact = kernel_mmd(kernel_matrix(np.concatenate([x, y]), np.ones(7), "median"), np.ones(7))
    assert call(module, inputs).item() == pytest.approx(exact, abs=0.005)


def test_bandwidth_has_no_gradient():
    inputs = batch(dtype=torch.float64)
    x, y = inputs["source_features"], inputs["target_features"]
    pairs = distances(np.concatenate([array(x), array(y)]))[np.triu_indices(12, 1)]
    modules = [make("mmd_rff", bandwidth=b).double() for b in ("mean", float(pairs.mean()))]
    gradients = [torch.autograd.grad(call(module, inputs), [x, y]) for module in modules]
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted)


def test_unbiased_form_averages_0_on_equal_distributions():
    g, draws = torch.Generator().manual_seed(0), 300
    modules = {name: make("mmd_rff", width=4, estimator=name) for name in ("unbiased", "biased")}
    values = {name: [] for name in modules}
    for _ in range(draws):
        x, y = torch.randn(2, 8, 4, generator=g)
        for name, module in modules.items():
            values[name].append(module(x, y, torch.ones(8)).item())
    error = np.std(values["unbiased"]) / draws**0.5
    assert abs(np.mean(values["unbiased"])) < 4 * error
    assert np.mean(values["biased"]) > 40 * error


def test_it_makes_nothing_quadratic():
    module = make("mmd_rff", width=8, frequencies=64)
    x, y = (torch.randn(4000, 8, requires_grad=True) for _ in range(2))
    with Largest() as largest:
        module(x, y, torch.ones(4000)).backward()
    assert largest.entries == 4000 * 64
