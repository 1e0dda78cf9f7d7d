"""Central moment discrepancy: value for each interval, weights, and a gradient that rounding cannot fool."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make
from moment_cases import gradients, moment, weighted

INTERVALS = ["batch", "tanh", [-2, 3]]


def cmd(inputs, moments: int = 5, interval="batch") -> float:
    """The paper's sum; [a, b] is the range of all features of the batch, [-1, 1] after tanh, or as given."""
    x, y, w = (array(inputs[name]) for name in ("source_features", "target_features", "source_weights"))
    if interval == "tanh":
        x, y, interval = np.tanh(x), np.tanh(y), [-1, 1]
    elif interval == "batch":
        interval = [min(x.min(), y.min()), max(x.max(), y.max())]
    width, ones = interval[1] - interval[0], np.ones(len(y))
    s, t = moment(x, w, 1), moment(y, ones, 1)
    value = np.linalg.norm(s - t) / width
    for k in range(2, moments + 1):
        value += np.linalg.norm(moment(x, w, k, s) - moment(y, ones, k, t)) / width**k
    return value


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("moments", [1, 2, 5, 7])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9), (6, 6)])
def test_value_is_the_definition(interval, moments, n, m):
    module = make("cmd", moments=moments, interval=interval)
    for inputs in (batch(n, m), weighted(n, m)):
        value = call(module, inputs)
        assert value.shape == ()
        assert value.item() == pytest.approx(cmd(inputs, moments, interval), rel=1e-5)


def test_the_range_of_the_batch_has_no_gradient():
    """The gradient is that of a fixed interval with the same ends."""
    inputs = weighted(dtype=torch.float64)
    both = np.concatenate([array(inputs["source_features"]), array(inputs["target_features"])])
    fixed = make("cmd", interval=[float(both.min()), float(both.max())])
    found, wanted = (gradients(call(module, inputs), inputs) for module in (make("cmd"), fixed))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_higher_moments_see_what_lower_ones_do_not():
    """Same mean and variance, other skewness: the third moment tells."""
    x = torch.tensor([-1.0, -1, 2] * 4).unsqueeze(1)
    values = [make("cmd", 1, moments=k)(x, -x, torch.ones(12)).item() for k in (1, 2, 3)]
    assert values[:2] == [0, 0]
    assert values[2] == pytest.approx(2 * 2 / 4**3)
