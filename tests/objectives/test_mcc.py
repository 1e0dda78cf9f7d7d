"""Minimum class confusion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, batch, make, softmax


def row_weights(y: np.ndarray) -> np.ndarray:
    certainty = 1 + np.exp((y * np.log(y)).sum(1))
    return len(y) * certainty / certainty.sum()


def mcc(z: np.ndarray, temperature: float = 2.5, weights: np.ndarray | None = None) -> float:
    """The matrix of class confusions, entry by entry."""
    y = softmax(z / temperature)
    w = row_weights(y) if weights is None else weights
    classes = y.shape[1]
    confusion = np.array([[(w * y[:, k] * y[:, j]).sum() for j in range(classes)] for k in range(classes)])
    confusion /= confusion.sum(1, keepdims=True)
    return (confusion.sum() - np.trace(confusion)) / classes


def test_value_is_the_definition():
    for temperature, (m, classes) in itertools.product((1.0, 2.5, 4.0), ((5, 3), (2, 7), (12, 2))):
        z = batch(m=m, classes=classes)["target_logits"].detach() * 3
        value = make("mcc", classes=classes, temperature=temperature)(z).item()
        assert value == pytest.approx(mcc(array(z), temperature), rel=1e-5), (temperature, m)


def test_the_gradient_holds_the_weights_of_rows_fixed():
    """Central differences of the definition with W as it is; with W moving they are others."""
    z = 2 * batch(dtype=torch.float64)["target_logits"].detach()
    (found,) = torch.autograd.grad(make("mcc")(leaf := z.clone().requires_grad_()), leaf)
    fixed, moving, w = np.zeros((5, 3)), np.zeros((5, 3)), row_weights(softmax(array(z) / 2.5))
    for i, k in np.ndindex(5, 3):
        step = np.zeros((5, 3))
        step[i, k] = 1e-5
        for gradient, weights in ((fixed, w), (moving, None)):
            high, low = (mcc(array(z) + sign * step, weights=weights) for sign in (1, -1))
            gradient[i, k] = (high - low) / 2e-5
    np.testing.assert_allclose(array(found), fixed, atol=1e-9)
    assert np.abs(moving - fixed).max() > 1e-4


@pytest.mark.parametrize("m", [1, 4, 9])
def test_known_values(m):
    module = make("mcc")
    assert module(torch.zeros(m, 3)).item() == pytest.approx(2 / 3)  # nothing known
    assert module(1e4 * torch.eye(3)[[0] * m]).item() == pytest.approx(2 / 3)  # all of one class: no better
    present = min(m, 3)
    spread = module(1e4 * torch.eye(3)[[i % 3 for i in range(m)]]).item()
    assert spread == pytest.approx(1 - present / 3, abs=1e-6)


def test_a_class_that_no_row_predicts_divides_nothing_by_0():
    """In the limit its row of the matrix is that of the rows that come nearest to it: float64 gets there in fp32."""
    z = torch.tensor([[3.0, 1.0, -900.0], [0.0, 2.0, -900.0], [1.0, 1.5, -905.0]])
    leaf, module = z.clone().requires_grad_(), make("mcc")
    value = module(leaf)
    assert value.item() == pytest.approx(mcc(array(z)), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, leaf)
    assert torch.isfinite(gradient).all()
    assert gradient[:, :2].abs().min() > 1e-4
