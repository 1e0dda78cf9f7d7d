"""Relational distillation against NumPy; rows that coincide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, make


def huber(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    gap = np.abs(a - b)
    return np.where(gap < 1, 0.5 * gap**2, gap - 0.5)


def distances(x: np.ndarray) -> np.ndarray:
    d = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return d / d[~np.eye(len(x), dtype=bool)].mean()


def angles(x: np.ndarray) -> np.ndarray:
    out = np.zeros((len(x),) * 3)
    for j, i, k in np.ndindex(out.shape):
        if i != j and k != j:
            a, b = x[i] - x[j], x[k] - x[j]
            out[j, i, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return out


def expected(x: np.ndarray, y: np.ndarray, distance=1.0, angle=2.0) -> float:
    n = len(x)
    pairs = huber(distances(x), distances(y)).sum() / (n * (n - 1))
    return distance * pairs + angle * huber(angles(x), angles(y)).mean()


def rows(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("settings", [{}, {"angle": 0.0}, {"distance": 0.0, "angle": 1.0}])
def test_value_whatever_the_widths(settings):
    """Several teachers count alike."""
    x, teachers = rows(8, 6, 0), [rows(8, 11, 1), rows(8, 3, 2)]
    each = [expected(array(x), array(y), **settings) for y in teachers]
    for count in (1, 2):
        value = make("rkd", **settings)(features=x, teacher_features=teachers[:count]).item()
        assert value == pytest.approx(np.mean(each[:count]), rel=1e-9), count


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
