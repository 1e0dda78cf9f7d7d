"""Batch nuclear-norm maximisation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from cases import array, batch, make, softmax


def bnm(z: np.ndarray) -> float:
    return -np.linalg.svd(softmax(z), compute_uv=False).sum() / len(z)


@pytest.mark.parametrize(("m", "classes"), [(5, 3), (2, 7), (1, 4), (12, 2), (40, 13)])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0])
def test_value_is_the_definition(m, classes, sharpness):
    z = sharpness * batch(m=m, classes=classes)["target_logits"].detach()
    assert make("bnm", classes=classes)(z).item() == pytest.approx(bnm(array(z)), rel=2e-5)


@pytest.mark.parametrize("m", [3, 9, 30])
def test_known_values(m):
    module = make("bnm")
    flat, one, spread = torch.zeros(m, 3), 1e4 * torch.eye(3)[[0] * m], 1e4 * torch.eye(3)[[i % 3 for i in range(m)]]
    assert module(flat).item() == pytest.approx(-1 / math.sqrt(3 * m), rel=1e-5)
    assert module(one).item() == pytest.approx(-1 / math.sqrt(m), rel=1e-5)
    assert module(spread).item() == pytest.approx(-math.sqrt(3 / m), rel=1e-5)


def test_predictions_that_are_all_alike_have_a_finite_gradient():
    """Of rank 1: a derivative of singular vectors would divide 0 by 0."""
    z = torch.tensor([[0.3, -0.2, 1.0]]).repeat(6, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(make("bnm")(z), z)
    assert torch.isfinite(gradient).all()
    assert gradient[:, 2].max() < 0 < gradient[:, :2].min()  # more certain of what they say
    torch.testing.assert_close(gradient, gradient[:1].expand(6, -1))  # and nothing else


def test_minimising_spreads_certain_rows_over_classes():
    z = (
        torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.5, 0.0, 0.0])
    ).requires_grad_()
    optimizer, module = torch.optim.Adam([z], lr=0.1), make("bnm")
    for _ in range(300):
        optimizer.zero_grad()
        module(z).backward()
        optimizer.step()
    p = z.detach().softmax(-1)
    assert p.amax(1).min() > 0.99
    assert p.mean(0).min() > 0.15
    assert module(z).item() < -0.95 * math.sqrt(3 / 30)


def test_a_large_batch_of_many_classes_is_affordable():
    """1024 x 345, forward and backward. The bound is two hundred times what one core needs."""
    z = torch.randn(1024, 345, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module, start = make("bnm", classes=345), time.perf_counter()
    (gradient,) = torch.autograd.grad(module(z), z)
    assert time.perf_counter() - start < 20
    assert torch.isfinite(gradient).all()
