"""Batch spectral shrinkage against NumPy's SVD."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, make


def test_value_and_gradient():
    g = torch.Generator().manual_seed(0)
    for shape, settings in itertools.product(((12, 5), (5, 12), (6, 6)), ({}, {"k": 3}, {"k": 99})):
        k = settings.get("k", 1)
        x = torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()
        value = make("bss", **settings)(features=x)
        u, s, vt = np.linalg.svd(array(x), full_matrices=False)
        assert value.item() == pytest.approx((s[-k:] ** 2).sum(), rel=1e-9), (shape, k)
        wanted = 2 * (u[:, -k:] * s[-k:]) @ vt[-k:]
        np.testing.assert_allclose(array(torch.autograd.grad(value, x)[0]), wanted, atol=1e-9)


def test_a_collapsed_batch_has_nothing_to_shrink():
    x = torch.ones(6, 4, requires_grad=True)
    value = make("bss")(features=x)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-9)
    assert x.grad.abs().max() < 1e-5
