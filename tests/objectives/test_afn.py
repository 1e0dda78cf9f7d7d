"""Adaptive feature norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make

NAMES = ("source_features", "target_features")


def directions(x: torch.Tensor) -> np.ndarray:
    return array(x) / np.linalg.norm(array(x), axis=1, keepdims=True)


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (1, 9)])
def test_the_value_is_constant_and_the_gradient_draws_each_row_outwards(delta, n, m):
    """d/df of (|f| - r - Δ)² at r = |f| is -2Δ f/|f|; the domains count half each, in TLlib one each."""
    inputs = batch(n, m)
    value = call(make("afn", delta=delta), inputs)
    assert value.item() == pytest.approx(delta**2, rel=1e-6)
    for name, found in zip(NAMES, torch.autograd.grad(value, [inputs[k] for k in NAMES]), strict=True):
        x = inputs[name]
        np.testing.assert_allclose(array(found), -delta * directions(x) / len(x), atol=1e-6)


def test_the_gradient_is_that_of_the_formula_with_the_norm_held_fixed():
    """What gradcheck cannot see, since the value does not move: the lengths that are stopped are given as numbers."""
    inputs, module = batch(dtype=torch.float64), make("afn", delta=0.7)
    x, y = (inputs[k] for k in NAMES)
    r, q = x.detach().norm(dim=1), y.detach().norm(dim=1)

    def formula(x, y):
        return ((x.norm(dim=1) - r - 0.7) ** 2).mean() / 2 + ((y.norm(dim=1) - q - 0.7) ** 2).mean() / 2

    assert torch.autograd.gradcheck(formula, (x, y))
    found, expected = torch.autograd.grad(call(module, inputs), [x, y]), torch.autograd.grad(formula(x, y), [x, y])
    torch.testing.assert_close(found, expected)


def test_steps_lengthen_features_and_keep_their_directions():
    inputs, module = batch(), make("afn")
    x = inputs["target_features"]
    gradient = torch.autograd.grad(call(module, inputs), x)[0]
    longer = x - 0.5 * len(x) * gradient
    torch.testing.assert_close(longer.norm(dim=1), x.norm(dim=1) + 0.5)
    np.testing.assert_allclose(directions(longer), directions(x), atol=1e-5)


def test_a_row_of_zeros_has_no_direction():
    inputs = batch()
    x = torch.zeros(7, 6, requires_grad=True)
    value = call(make("afn"), inputs, source_features=x)
    assert value.item() == 1
    assert not torch.autograd.grad(value, x)[0].any()
