"""WDGRL: the critic's distance, its penalty, the points between, and the counter that draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make, mlp

GOLDEN = (5**0.5 - 1) / 2


def slopes(module, x: np.ndarray, step: float = 1e-8) -> np.ndarray:
    """Lengths of the critic's gradient, by central differences."""
    moves = step * np.eye(x.shape[1])
    columns = [(mlp(module.critic, x + e) - mlp(module.critic, x - e)) / (2 * step) for e in moves]
    return np.linalg.norm(np.concatenate(columns, 1), axis=1)


def parts(module, inputs, drawn: int = 0) -> tuple[float, float]:
    """The distance and the penalty; `drawn` points have come before."""
    (s, t), weights = domains(inputs), array(inputs["source_weights"])
    distance = np.average(mlp(module.critic, s)[:, 0], weights=weights) - mlp(module.critic, t).mean()
    points = [s, t]
    for i in range(max(len(s), len(t))):
        alpha = (drawn + i) * GOLDEN % 1
        points.append((alpha * s[i % len(s)] + (1 - alpha) * t[i % len(t)])[None])
    return distance, ((slopes(module, np.concatenate(points)) - 1) ** 2).mean()


@pytest.mark.parametrize("settings", [{}, {"penalty": 2.5, "depth": 1}, {"depth": 0}])
def test_value_given_the_critic(settings):
    for n, m in ((7, 5), (4, 9), (6, 6)):
        module, inputs = make("wdgrl", **settings).double(), batch(n, m, dtype=torch.float64)
        for step in range(3):
            inputs["source_weights"] = torch.linspace(1.0, 1.0 + step, n, dtype=torch.float64)
            distance, penalty = parts(module, inputs, drawn=step * max(n, m))
            wanted = module.penalty * penalty - distance
            assert call(module, inputs).item() == pytest.approx(wanted, rel=1e-6, abs=1e-6), (n, m, step)


def test_the_encoder_gets_the_distance_and_not_the_penalty():
    """A huge penalty moves no feature; the distance's own gradient comes back, so that descending on it closes in."""
    inputs = batch()
    features = [inputs["source_features"], inputs["target_features"]]
    weak, strong = (make("wdgrl", penalty=p) for p in (1.0, 1e6))
    found = torch.autograd.grad(call(weak, inputs), features)
    torch.testing.assert_close(found, torch.autograd.grad(call(strong, inputs), features))
    moved = {**inputs, "source_features": features[0] - found[0], "target_features": features[1] - found[1]}
    assert parts(weak, moved)[0] < parts(weak, inputs)[0] - 1e-4


def test_the_points_between_fill_the_way_evenly():
    """Of any 100 in a row, none of 50 equal parts of [0, 1] gets more than 4."""
    module = make("wdgrl", width=1)
    for start in (0, 12345, 2**31 - 50, 2**40):
        module.drawn.fill_(start)
        alpha = module._between(torch.ones(100, 1), torch.zeros(3, 1))
        assert module.drawn.item() == start + 100
        assert alpha.min() >= 0
        assert alpha.max() <= 1
        assert np.histogram(array(alpha), bins=50, range=(0, 1))[0].max() <= 4


def test_no_second_derivative_is_taken():
    """A backward pass is enough, and a value can be had without any graph."""
    module, inputs = make("wdgrl"), batch()
    with torch.no_grad():
        value = call(module, inputs)
    module.drawn.zero_()
    loss = call(module, inputs)
    assert torch.equal(loss, value)
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())
