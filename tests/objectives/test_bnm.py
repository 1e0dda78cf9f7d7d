"""Batch nuclear-norm maximisation."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
from cases import array, batch, make, softmax


def bnm(z: np.ndarray) -> float:
    return -np.linalg.svd(softmax(z), compute_uv=False).sum() / len(z)


def test_value_is_the_definition():
    """Of soft and sharp rows, and of rows that know nothing, are sure of one class, or of all in turn."""
    sizes, sharpness = ((5, 3), (2, 7), (1, 4), (12, 2), (40, 13)), (0.1, 1.0, 10.0)
    cases = [s * batch(m=m, classes=k)["target_logits"].detach() for (m, k), s in itertools.product(sizes, sharpness)]
    for m in (3, 9, 30):
        cases += [torch.zeros(m, 3), 1e4 * torch.eye(3)[[0] * m], 1e4 * torch.eye(3)[[i % 3 for i in range(m)]]]
    for z in cases:
        assert make("bnm", classes=z.shape[1])(z).item() == pytest.approx(bnm(array(z)), rel=2e-5), z


def test_predictions_that_are_all_alike_have_a_finite_gradient():
    """Of rank 1: a derivative of singular vectors would divide 0 by 0."""
    z = torch.tensor([[0.3, -0.2, 1.0]]).repeat(6, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(make("bnm")(z), z)
    assert torch.isfinite(gradient).all()
    assert gradient[:, 2].max() < 0 < gradient[:, :2].min()  # more certain of what they say
    torch.testing.assert_close(gradient, gradient[:1].expand(6, -1))  # and nothing else


def test_a_large_batch_of_many_classes_is_affordable():
    """1024 x 345, forward and backward. The bound is two hundred times what one core needs."""
    z = torch.randn(1024, 345, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module, start = make("bnm", classes=345), time.perf_counter()
    (gradient,) = torch.autograd.grad(module(z), z)
    assert time.perf_counter() - start < 20
    assert torch.isfinite(gradient).all()
