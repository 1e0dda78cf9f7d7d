"""NT-Xent between two views of the target: value, queue, chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp, unit


def nt_xent(first: np.ndarray, second: np.ndarray, tau: float, queue: Sequence[np.ndarray] = ()) -> float:
    """The formula, row by row; `queue` holds further negatives."""
    m, total = len(first), 0.0
    z = unit(np.concatenate([first, second, *queue]))
    for i in range(2 * m):
        others = [math.exp(z[i] @ z[k] / tau) for k in range(len(z)) if k != i]
        total -= math.log(math.exp(z[i] @ z[(i + m) % (2 * m)] / tau) / sum(others))
    return total / (2 * m)


def projected(module, inputs) -> list[np.ndarray]:
    views = [array(inputs[k]) for k in ("target_features", "target_view_features")]
    return [mlp(module.projection, v) if module.projection else v for v in views]


@pytest.mark.parametrize("projection_dim", [0, 128, 4])
def test_value_is_the_formula(projection_dim):
    for temperature, m in itertools.product((0.05, 0.1, 0.5, 1.0), (2, 5, 12)):
        inputs, module = batch(m=m), make("nt_xent", temperature=temperature, projection_dim=projection_dim)
        expected = nt_xent(*projected(module, inputs), temperature)
        assert call(module, inputs).item() == pytest.approx(expected, rel=2e-5), (temperature, m)


@pytest.mark.parametrize("projection_dim", [0, 8])
def test_queue_holds_the_first_views_of_earlier_batches_as_negatives(projection_dim):
    """Projected as they were then: the projection has moved since."""
    module, kept = make("nt_xent", projection_dim=projection_dim, queue=12), np.empty((0, projection_dim or 6))
    for seed in range(4):
        inputs = batch(m=5, seed=seed)
        views = projected(module, inputs)
        value = call(module, inputs)
        assert value.item() == pytest.approx(nt_xent(*views, 0.5, [kept]), rel=1e-5)
        kept = np.concatenate([kept, unit(views[0])])[-12:]
        with torch.no_grad():
            for p in module.parameters():
                p += 0.1


def test_rows_that_are_all_equal_score_the_log_of_the_others_number():
    row = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    for m, projection_dim, temperature in itertools.product((1, 2, 7, 16), (0, 8), (0.05, 1.0)):
        inputs = {"target_features": row.repeat(m, 1), "target_view_features": row.repeat(m, 1)}
        module = make("nt_xent", temperature=temperature, projection_dim=projection_dim, queue=50)
        for negatives in (2 * m - 1, 3 * m - 1):  # the second time its own rows again
            assert call(module, inputs).item() == pytest.approx(math.log(negatives), abs=1e-5), (m, temperature)
