"""Sums over singular values: gradients that are right where they exist and finite where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array

from hftransfer.objectives.singular_values import largest_squares, nuclear_norm


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64).requires_grad_()


def rank_one() -> torch.Tensor:
    return torch.outer(torch.arange(1.0, 8), torch.tensor([1.0, -2.0, 3.0, 0.5]))


def tied() -> torch.Tensor:
    """All singular values 2."""
    return 2 * torch.linalg.qr(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))[0]


def test_values_are_those_of_numpys_singular_values():
    for n, d in ((7, 4), (4, 7), (5, 5), (1, 6), (6, 1), (40, 13)):
        x = rows(n, d).float()
        sigma = np.linalg.svd(array(x), compute_uv=False)
        assert nuclear_norm(x).item() == pytest.approx(sigma.sum(), rel=1e-6), (n, d)
        for k in (1, 2, 4, 99):
            assert largest_squares(x, k).item() == pytest.approx((sigma[:k] ** 2).sum(), rel=1e-6), (n, d, k)


@pytest.mark.parametrize(("n", "d"), [(6, 4), (4, 6), (5, 5)])
def test_gradients(n, d):
    """That of the nuclear norm is U Vᵀ; a weight multiplies value and gradient."""
    x = rows(n, d)
    for function in (nuclear_norm, lambda x: largest_squares(x, 1), lambda x: largest_squares(x, 2)):
        assert torch.autograd.gradcheck(function, x)
    u, sigma, v = np.linalg.svd(array(x), full_matrices=False)
    value = nuclear_norm(x, -0.3)
    assert value.item() == pytest.approx(-0.3 * sigma.sum(), rel=1e-12)
    np.testing.assert_allclose(array(torch.autograd.grad(value, x)[0]), -0.3 * u @ v, atol=1e-10)


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_the_gradient_in_float32_is_that_of_float64(sharpness):
    """Of softmax rows, soft and sharp."""
    p = (sharpness * rows(64, 10).detach()).softmax(-1).float()
    exact, single = p.double().requires_grad_(), p.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nuclear_norm(exact), exact)
    (found,) = torch.autograd.grad(nuclear_norm(single), single)
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("x", [rank_one(), rank_one().T, torch.ones(6, 3), torch.eye(4)[[2] * 5]])
def test_a_matrix_of_rank_one_keeps_to_its_one_direction(x):
    """U Vᵀ of the rest is anything: what rounding makes of it must not be followed."""
    x = x.clone().requires_grad_()
    value = nuclear_norm(x)
    (gradient,) = torch.autograd.grad(value, x)
    length = x.detach().norm()
    assert value.item() == pytest.approx(length.item(), rel=1e-6)
    torch.testing.assert_close(gradient, x.detach() / length)


@pytest.mark.parametrize("x", [tied(), tied().T, 2 * torch.eye(3)])
def test_tied_values_have_a_finite_subgradient(x):
    x = x.clone().requires_grad_()
    assert nuclear_norm(x).item() == pytest.approx(6, rel=1e-6)
    (gradient,) = torch.autograd.grad(nuclear_norm(x), x)
    torch.testing.assert_close(gradient, x.detach() / 2)
    for k in (1, 2, 3):
        value = largest_squares(x, k)
        (gradient,) = torch.autograd.grad(value, x)
        assert value.item() == pytest.approx(4 * k, rel=1e-5)
        # k directions of the tied space, each with the singular value 2·2
        np.testing.assert_allclose(
            np.linalg.svd(array(gradient), compute_uv=False), [4] * k + [0] * (3 - k), atol=1e-5
        )


@pytest.mark.parametrize("function", [nuclear_norm, lambda x: largest_squares(x, 1)])
def test_zeros_and_what_is_not_finite(function):
    x = torch.zeros(5, 3, requires_grad=True)
    assert function(x).item() == 0
    assert not torch.autograd.grad(function(x), x)[0].any()
    for bad in (torch.nan, torch.inf):
        broken = rank_one()
        broken[2, 1] = bad
        assert not torch.isfinite(function(broken))  # a NaN in the log, not an exception in the run


def test_large_and_small_matrices_lose_no_digits():
    x = rows(50, 20).float().detach()
    for factor in (1e-12, 1e6):
        assert nuclear_norm(factor * x).item() == pytest.approx(factor * nuclear_norm(x).item(), rel=1e-5)
        assert largest_squares(factor * x, 2).item() == pytest.approx(
            factor**2 * largest_squares(x, 2).item(), rel=1e-5, abs=0
        )
