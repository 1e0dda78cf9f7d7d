"""Adaptive feature norm."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, unit

NAMES = ("source_features", "target_features")


def test_the_value_is_constant_and_the_gradient_draws_each_row_outwards():
    """d/df of (|f| - r - Δ)² at r = |f| is -2Δ f/|f|; the domains count half each, in TLlib one each."""
    for delta, (n, m) in itertools.product((0.1, 1.0, 3.0), ((7, 5), (1, 9))):
        inputs = batch(n, m)
        value = call(make("afn", delta=delta), inputs)
        assert value.item() == pytest.approx(delta**2, rel=1e-6)
        for name, found in zip(NAMES, torch.autograd.grad(value, [inputs[k] for k in NAMES]), strict=True):
            wanted = -delta * unit(array(inputs[name])) / len(inputs[name])
            np.testing.assert_allclose(array(found), wanted, atol=1e-6, err_msg=f"{name} {delta}")


def test_a_row_of_zeros_has_no_direction():
    x = torch.zeros(7, 6, requires_grad=True)
    value = call(make("afn"), batch(), source_features=x)
    assert value.item() == 1
    assert not torch.autograd.grad(value, x)[0].any()
