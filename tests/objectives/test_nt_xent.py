"""NT-Xent between two views of the target: value, queue, chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nt_xent(first: np.ndarray, second: np.ndarray, tau: float, queue: Sequence[np.ndarray] = ()) -> float:
    """The formula, row by row; `queue` holds further negatives."""
    m, total = len(first), 0.0
    z = unit(np.concatenate([first, second, *queue]))
    for i in range(2 * m):
        others = [math.exp(z[i] @ z[k] / tau) for k in range(len(z)) if k != i]
        total -= math.log(math.exp(z[i] @ z[(i + m) % (2 * m)] / tau) / sum(others))
    return total / (2 * m)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("m", [2, 5, 12])
@pytest.mark.parametrize("projection_dim", [0, 128, 4])
def test_value_is_the_formula(temperature, m, projection_dim):
    inputs = batch(m=m)
    module = make("nt_xent", temperature=temperature, projection_dim=projection_dim)
    views = [array(inputs[k]) for k in ("target_features", "target_view_features")]
    expected = nt_xent(*(mlp(module.projection, v) if projection_dim else v for v in views), temperature)
    assert call(module, inputs).item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("projection_dim", [0, 8])
def test_queue_holds_the_first_views_of_earlier_batches_as_negatives(projection_dim):
    """Projected as they were then: the projection has moved since."""
    module, kept = make("nt_xent", projection_dim=projection_dim, queue=12), np.empty((0, projection_dim or 6))
    for seed in range(4):
        inputs = batch(m=5, seed=seed)
        views = [array(inputs[k]) for k in ("target_features", "target_view_features")]
        views = [mlp(module.projection, v) if projection_dim else v for v in views]
        value = call(module, inputs)
        assert value.item() == pytest.approx(nt_xent(*views, 0.5, [kept]), rel=1e-5)
        kept = np.concatenate([kept, unit(views[0])])[-12:]
        with torch.no_grad():
            for p in module.parameters():
                p += 0.1


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_chunks_change_neither_value_nor_gradient(chunk):
    """Of the second batch, so that there are rows in the queue."""
    found = []
    for size in (0, chunk):
        module, inputs = make("nt_xent", queue=6, chunk=size).double(), batch(dtype=torch.float64)
        call(module, batch(seed=1, dtype=torch.float64))
        value = call(module, inputs)
        wanted = [inputs["target_features"], inputs["target_view_features"], *module.parameters()]
        found.append([value, *torch.autograd.grad(value, wanted)])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 7, 16])
@pytest.mark.parametrize("projection_dim", [0, 8])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_rows_that_are_all_equal_score_log_2m_minus_1(m, projection_dim, temperature):
    row = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    inputs = {"target_features": row.repeat(m, 1), "target_view_features": row.repeat(m, 1)}
    module = make("nt_xent", temperature=temperature, projection_dim=projection_dim, queue=50)
    assert call(module, inputs).item() == pytest.approx(math.log(2 * m - 1), abs=1e-5)
    assert call(module, inputs).item() == pytest.approx(math.log(2 * m - 1 + m), abs=1e-5)  # its own rows again


def test_views_that_recognise_each_other_score_nearly_nothing():
    rows = 3 * torch.eye(6, dtype=torch.float64)[:5]  # fp32 has no more digits of 1 + 8/e¹⁰ than four
    module = make("nt_xent", temperature=0.1, projection_dim=0)
    same = call(module, {"target_features": rows, "target_view_features": 2 * rows}).item()
    assert same == pytest.approx(math.log(1 + 8 * math.exp(-10)), rel=1e-10)
    assert call(module, {"target_features": rows, "target_view_features": rows.roll(1, 0)}).item() > 5
