"""Relational distillation against NumPy; what it does not see; rows that coincide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make


def huber(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    gap = np.abs(a - b)
    return np.where(gap < 1, 0.5 * gap**2, gap - 0.5)


def distances(x: np.ndarray) -> np.ndarray:
    d = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return d / d[~np.eye(len(x), dtype=bool)].mean()


def angles(x: np.ndarray) -> np.ndarray:
    n = len(x)
    out = np.zeros((n, n, n))
    for j in range(n):
        for i in range(n):
            for k in range(n):
                if i != j and k != j:
                    a, b = x[i] - x[j], x[k] - x[j]
                    out[j, i, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return out


def expected(x: np.ndarray, y: np.ndarray, distance=1.0, angle=2.0) -> float:
    n = len(x)
    pairs = huber(distances(x), distances(y)).sum() / (n * (n - 1))
    return distance * pairs + angle * huber(angles(x), angles(y)).mean()


def rows(n: int, d: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("settings", [{}, {"angle": 0.0}, {"distance": 0.0, "angle": 1.0}])
def test_value_whatever_the_widths(settings):
    x, y = rows(8, 6, 0), rows(8, 11, 1)
    value = make("rkd", **settings)(features=x, teacher_features=[y]).item()
    assert value == pytest.approx(expected(array(x), array(y), **settings), rel=1e-9)


def test_several_teachers_count_alike():
    x, y, z = rows(8, 6, 0), rows(8, 11, 1), rows(8, 3, 2)
    value = make("rkd")(features=x, teacher_features=[y, z]).item()
    want = (expected(array(x), array(y)) + expected(array(x), array(z))) / 2
    assert value == pytest.approx(want, rel=1e-9)


def test_scale_shift_and_rotation_change_nothing():
    x = rows(8, 6, 0)
    turn = torch.linalg.qr(rows(6, 6, 3))[0]
    assert make("rkd")(features=3 * x @ turn + 5, teacher_features=[x]).item() == pytest.approx(0, abs=1e-12)


def test_descending_brings_the_relations_over():
    x, y = rows(10, 6, 0).requires_grad_(), rows(10, 4, 1)
    optimizer, values = torch.optim.Adam([x], lr=0.05), []
    for _ in range(200):
        value = make("rkd")(features=x, teacher_features=[y])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.05 * values[0]


def test_rows_that_coincide_have_no_direction():
    x = rows(6, 4, 0)
    x[3] = x[1]
    x.requires_grad_()
    value = make("rkd")(features=x, teacher_features=[rows(6, 4, 1)])
    (gradient,) = torch.autograd.grad(value, x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_the_rows_of_angles_do_not_depend_on_their_order():
    """As rows of two processes stand otherwise than those of one."""
    x, y, shuffled = rows(40, 6, 0), rows(40, 5, 1), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    module = make("rkd", angle_rows=10)
    one = module(features=x, teacher_features=[y])
    other = module(features=x[shuffled], teacher_features=[y[shuffled]])
    torch.testing.assert_close(one, other)
    assert abs(one.item() - make("rkd")(features=x, teacher_features=[y]).item()) > 1e-4


def test_through_a_batch():
    inputs = batch()
    x = np.concatenate([array(inputs["source_features"]), array(inputs["target_features"])])
    assert call(make("rkd"), inputs).item() == pytest.approx(
        expected(x, array(inputs["teacher_features"][0])), rel=1e-4
    )
