"""NT-Xent between two views of the target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp


def nt_xent(first: np.ndarray, second: np.ndarray, tau: float) -> float:
    """The formula, row by row."""
    z = np.concatenate([first, second])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    m, total = len(first), 0.0
    for i in range(2 * m):
        others = [math.exp(z[i] @ z[k] / tau) for k in range(2 * m) if k != i]
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


@pytest.mark.parametrize("m", [1, 2, 7, 16])
@pytest.mark.parametrize("projection_dim", [0, 8])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_rows_that_are_all_equal_score_log_2m_minus_1(m, projection_dim, temperature):
    row = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    inputs = {"target_features": row.repeat(m, 1), "target_view_features": row.repeat(m, 1)}
    module = make("nt_xent", temperature=temperature, projection_dim=projection_dim)
    assert call(module, inputs).item() == pytest.approx(math.log(2 * m - 1), abs=1e-5)


def test_views_that_recognise_each_other_score_nearly_nothing():
    rows = 3 * torch.eye(6)[:5]
    module = make("nt_xent", temperature=0.1, projection_dim=0)
    same = call(module, {"target_features": rows, "target_view_features": 2 * rows}).item()
    assert same == pytest.approx(math.log(1 + 8 * math.exp(-10)), rel=1e-4)
    assert call(module, {"target_features": rows, "target_view_features": rows.roll(1, 0)}).item() > 5


def test_invariances():
    module, inputs = make("nt_xent", projection_dim=0), batch()
    value = call(module, inputs)
    names = ("target_features", "target_view_features")
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    for what, change in {
        "row order": {k: inputs[k].flip(0) for k in names},
        "views swapped": dict(zip(names, (inputs[k] for k in reversed(names)), strict=True)),
        "length of rows": {k: 50 * inputs[k] for k in names},
        "rotation": {k: inputs[k] @ rotation for k in names},
        "sign": {k: -inputs[k] for k in names},
    }.items():
        torch.testing.assert_close(call(module, inputs, **change), value, msg=what, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("projection_dim", [0, 8])
def test_gradcheck(projection_dim):
    module = make("nt_xent", projection_dim=projection_dim, temperature=0.5).double()
    inputs = batch(m=4, dtype=torch.float64)
    assert torch.autograd.gradcheck(module, (inputs["target_features"], inputs["target_view_features"]))


@pytest.mark.parametrize("settings", [{"temperature": -1}, {"temperature": "hot"}, {"projection_dim": -1}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="must be"):
        make("nt_xent", **settings)
