"""Joint MMD: value, gradient, what it sees that MMD does not, weights, TLlib's scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, distances, make, softmax
from kernel_cases import kernel_matrix, kernel_mmd, tllib_bandwidth, tllib_index, tllib_kernel


def both(inputs, name: str) -> np.ndarray:
    return np.concatenate([array(inputs[f"{domain}_{name}"]) for domain in ("source", "target")])


def joint(inputs, bandwidth="mean", kernels=5, prediction_bandwidth=1.68) -> np.ndarray:
    """The product of the two kernels, all rows with all rows."""
    w = array(inputs["source_weights"])
    predictions = kernel_matrix(softmax(both(inputs, "logits")), w, prediction_bandwidth, 1)
    return kernel_matrix(both(inputs, "features"), w, bandwidth, kernels) * predictions


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
@pytest.mark.parametrize("prediction_bandwidth", ["mean", "median", 1.68])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_the_definition(estimator, bandwidth, prediction_bandwidth, weighted):
    inputs = batch()
    if weighted:
        inputs["source_weights"] = 0.3 + torch.rand(7, generator=torch.Generator().manual_seed(1))
    widths = {"bandwidth": bandwidth, "prediction_bandwidth": prediction_bandwidth, "kernels": 3}
    value = call(make("jan", estimator=estimator, **widths), inputs)
    assert value.shape == ()
    expected = kernel_mmd(joint(inputs, **widths), array(inputs["source_weights"]), estimator)
    assert value.item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("n", [3, 8, 20])
def test_tllib_has_five_times_the_value_and_a_constant(n):
    """Five kernels on the features, summed, one of σ = 0.92 on the predictions; 2/(n-1) added."""
    inputs = batch(n, n)
    of_predictions = np.exp(-distances(softmax(both(inputs, "logits"))) / (2 * 0.92**2))
    kernel = tllib_kernel(both(inputs, "features")) * of_predictions
    tllibs = (kernel * tllib_index(n)).sum() + 2 / (n - 1)
    module = make("jan", bandwidth=tllib_bandwidth(both(inputs, "features")), prediction_bandwidth=2 * 0.92**2)
    assert 5 * call(module, inputs).item() + 2 / (n - 1) == pytest.approx(tllibs, abs=1e-5)


def test_same_predictions_everywhere_make_it_mmd():
    inputs = batch()
    flat = {name: torch.zeros_like(inputs[name]) for name in ("source_logits", "target_logits")}
    assert call(make("jan"), inputs, **flat).item() == pytest.approx(call(make("mmd"), inputs).item(), abs=2e-7)


def test_it_sees_features_that_changed_their_predictions():
    """Features and predictions are distributed alike in both domains, but go together the other way round."""
    g = torch.Generator().manual_seed(0)
    f = torch.cat([torch.randn(10, 6, generator=g) - 2, torch.randn(10, 6, generator=g) + 2])
    z = torch.tensor([[4.0, 0.0, 0.0]] * 10 + [[0.0, 4.0, 0.0]] * 10)
    inputs = {"source_features": f, "target_features": f, "source_logits": z, "source_weights": torch.ones(20)}
    together = call(make("jan", estimator="biased"), inputs, target_logits=z).item()
    crossed = call(make("jan", estimator="biased"), inputs, target_logits=z.flip(0)).item()
    assert call(make("mmd", estimator="biased"), inputs).item() == pytest.approx(0, abs=1e-6)
    assert together == pytest.approx(0, abs=1e-6)
    assert crossed > 0.1


def test_estimators_on_equal_distributions():
    n, draws = 8, 300
    modules = {"unbiased": make("jan"), "biased": make("jan", estimator="biased")}
    values = {name: [] for name in modules}
    g = torch.Generator().manual_seed(0)
    for _ in range(draws):
        (x, y), (zx, zy) = torch.randn(2, n, 4, generator=g), torch.randn(2, n, 3, generator=g)
        for name, module in modules.items():
            values[name].append(module(x, y, zx, zy, torch.ones(n)).item())
    mean = {name: np.mean(v) for name, v in values.items()}
    error = {name: np.std(v) / draws**0.5 for name, v in values.items()}
    assert abs(mean["unbiased"]) < 4 * error["unbiased"]
    assert mean["biased"] > 40 * error["biased"]
