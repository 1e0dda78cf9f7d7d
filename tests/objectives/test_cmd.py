"""Central moment discrepancy: value for each interval, weights, and a gradient that rounding cannot fool."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make
from moment_cases import gradients, moment, weighted


def cmd(inputs, moments: int = 5, interval="batch") -> float:
    """The paper's sum; [a, b] is the range of all features of the batch, [-1, 1] after tanh, or as given."""
    (x, y), w = domains(inputs), array(inputs["source_weights"])
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


@pytest.mark.parametrize("interval", ["batch", "tanh", [-2, 3]])
def test_value_is_the_definition(interval):
    for moments, (n, m) in itertools.product((1, 2, 5, 7), ((7, 5), (4, 9), (6, 6))):
        module = make("cmd", moments=moments, interval=interval)
        for inputs in (batch(n, m), weighted(n, m)):
            value = call(module, inputs).item()
            assert value == pytest.approx(cmd(inputs, moments, interval), rel=1e-5), (moments, n, m)


def test_the_range_of_the_batch_has_no_gradient():
    """The gradient is that of a fixed interval with the same ends."""
    inputs = weighted(dtype=torch.float64)
    both = np.concatenate(domains(inputs))
    fixed = make("cmd", interval=[float(both.min()), float(both.max())])
    found, wanted = (gradients(call(module, inputs), inputs) for module in (make("cmd"), fixed))
    torch.testing.assert_close(found, wanted)
