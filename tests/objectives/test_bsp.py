"""Batch spectral penalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make


def squares(x: np.ndarray, k: int) -> float:
    return (np.linalg.svd(x, compute_uv=False)[:k] ** 2).sum()


def bsp(x: np.ndarray, y: np.ndarray, k: int = 1) -> float:
    return squares(x, k) + squares(y, k)


@pytest.mark.parametrize("k", [1, 2, 5, 50])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (3, 9), (1, 1)])
def test_value_is_the_definition(k, n, m):
    inputs = batch(n, m)
    expected = bsp(array(inputs["source_features"]), array(inputs["target_features"]), k)
    assert call(make("bsp", k=k), inputs).item() == pytest.approx(expected, rel=1e-5)


def test_a_step_shortens_the_first_singular_value_and_leaves_the_others():
    inputs = batch(dtype=torch.float64)
    x = inputs["source_features"]
    (gradient,) = torch.autograd.grad(call(make("bsp"), inputs), x)
    before, after = (np.linalg.svd(array(f), compute_uv=False) for f in (x, x - 0.01 * gradient))
    np.testing.assert_allclose(after[0], before[0] * (1 - 0.02))
    np.testing.assert_allclose(after[1:], before[1:])


def test_tied_singular_values_have_a_finite_gradient():
    x = (3 * torch.eye(6)).requires_grad_()
    value = make("bsp")(x, x, torch.ones(6))
    assert value.item() == pytest.approx(18)
    (gradient,) = torch.autograd.grad(value, x)
    assert torch.isfinite(gradient).all()
    assert np.linalg.svd(array(gradient), compute_uv=False)[0] == pytest.approx(2 * 2 * 3)
