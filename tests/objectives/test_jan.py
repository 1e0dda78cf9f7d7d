"""Joint MMD: value, weights, TLlib's scale."""

from __future__ import annotations

import numpy as np
import pytest
from cases import array, batch, call, distances, domains, make, softmax
from kernel_cases import kernel_matrix, kernel_mmd, tllib_bandwidth, tllib_index, tllib_kernel
from moment_cases import weighted


def joint(inputs, bandwidth="mean", kernels=5, prediction_bandwidth=1.68) -> np.ndarray:
    """The product of the two kernels, all rows with all rows."""
    w = array(inputs["source_weights"])
    predictions = kernel_matrix(softmax(np.concatenate(domains(inputs, "logits"))), w, prediction_bandwidth, 1)
    return kernel_matrix(np.concatenate(domains(inputs, "features")), w, bandwidth, kernels) * predictions


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("bandwidth", ["mean", "median", 3.0])
@pytest.mark.parametrize("prediction_bandwidth", ["mean", "median", 1.68])
def test_value_is_the_definition(estimator, bandwidth, prediction_bandwidth):
    widths = {"bandwidth": bandwidth, "prediction_bandwidth": prediction_bandwidth, "kernels": 3}
    for inputs in (batch(), weighted()):
        value = call(make("jan", estimator=estimator, **widths), inputs).item()
        expected = kernel_mmd(joint(inputs, **widths), array(inputs["source_weights"]), estimator)
        assert value == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("n", [3, 8, 20])
def test_tllib_has_five_times_the_value_and_a_constant(n):
    """Five kernels on the features, summed, one of σ = 0.92 on the predictions; 2/(n-1) added."""
    inputs = batch(n, n)
    features = np.concatenate(domains(inputs, "features"))
    of_predictions = np.exp(-distances(softmax(np.concatenate(domains(inputs, "logits")))) / (2 * 0.92**2))
    kernel = tllib_kernel(features) * of_predictions
    tllibs = (kernel * tllib_index(n)).sum() + 2 / (n - 1)
    module = make("jan", bandwidth=tllib_bandwidth(features), prediction_bandwidth=2 * 0.92**2)
    assert 5 * call(module, inputs).item() + 2 / (n - 1) == pytest.approx(tllibs, abs=1e-5)
