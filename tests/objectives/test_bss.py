"""Batch spectral shrinkage against NumPy's SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make


def rows(n: int, d: int, dtype=torch.float64) -> torch.Tensor:
    return (
        torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype).requires_grad_()
    )


@pytest.mark.parametrize(("n", "d"), [(12, 5), (5, 12), (6, 6)])
@pytest.mark.parametrize("k", [1, 3, 99])
def test_value_and_gradient(n, d, k):
    x = rows(n, d)
    value = make("bss", k=k)(features=x)
    u, s, vt = np.linalg.svd(array(x), full_matrices=False)
    assert value.item() == pytest.approx((s[-k:] ** 2).sum(), rel=1e-9)
    want = 2 * (u[:, -k:] * s[-k:]) @ vt[-k:]
    np.testing.assert_allclose(array(torch.autograd.grad(value, x)[0]), want, atol=1e-9)


def test_all_rows_of_the_batch_are_one_matrix():
    inputs = batch()
    both = torch.cat([inputs["source_features"], inputs["target_features"]])
    assert torch.equal(call(make("bss"), inputs), make("bss")(features=both))


def test_descending_shrinks_the_smallest_value_and_leaves_the_others():
    x = rows(12, 5).detach().requires_grad_()
    before = torch.linalg.svdvals(x.detach())
    optimizer = torch.optim.SGD([x], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        make("bss")(features=x).backward()
        optimizer.step()
    after = torch.linalg.svdvals(x.detach())
    assert after[-1] < 0.01 * before[-1]
    torch.testing.assert_close(after[:-1], before[:-1])


def test_a_collapsed_batch_has_nothing_to_shrink():
    x = torch.ones(6, 4, requires_grad=True)
    value = make("bss")(features=x)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-9)
    assert x.grad.abs().max() < 1e-5
