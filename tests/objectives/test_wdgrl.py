"""WDGRL: the critic's distance, its penalty, the points between, and the counter that draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp
from torch import nn

GOLDEN = (5**0.5 - 1) / 2


def slopes(module, x: np.ndarray, step: float = 1e-8) -> np.ndarray:
    """Lengths of the critic's gradient, by central differences."""
    moves = step * np.eye(x.shape[1])
    columns = [(mlp(module.critic, x + e) - mlp(module.critic, x - e)) / (2 * step) for e in moves]
    return np.linalg.norm(np.concatenate(columns, 1), axis=1)


def parts(module, inputs, drawn: int = 0) -> tuple[float, float]:
    """The distance and the penalty; `drawn` points have come before."""
    s, t = array(inputs["source_features"]), array(inputs["target_features"])
    distance = (
        np.average(mlp(module.critic, s)[:, 0], weights=array(inputs["source_weights"])) - mlp(module.critic, t).mean()
    )
    points = [s, t]
    for i in range(max(len(s), len(t))):
        alpha = (drawn + i) * GOLDEN % 1
        points.append((alpha * s[i % len(s)] + (1 - alpha) * t[i % len(t)])[None])
    return distance, ((slopes(module, np.concatenate(points)) - 1) ** 2).mean()


@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9), (6, 6)])
@pytest.mark.parametrize("settings", [{}, {"penalty": 2.5, "depth": 1}, {"depth": 0}])
def test_value_given_the_critic(n, m, settings):
    module, inputs = make("wdgrl", **settings).double(), batch(n, m, dtype=torch.float64)
    for step in range(3):
        inputs["source_weights"] = torch.linspace(1.0, 1.0 + step, n, dtype=torch.float64)
        distance, penalty = parts(module, inputs, drawn=step * max(n, m))
        wanted = module.penalty * penalty - distance
        assert call(module, inputs).item() == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_weights_are_the_distances():
    """Twice the weight is that row twice, in W; the penalty takes rows as they come."""
    module, inputs = make("wdgrl").double(), batch(dtype=torch.float64)
    even, _ = parts(module, inputs)
    before = call(module, inputs)
    module.drawn.zero_()
    inputs["source_weights"] = torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    rows = {**inputs, "source_features": inputs["source_features"][[0, 1, 1, 2, 3, 4, 5, 6]]}
    rows["source_weights"] = torch.ones(8, dtype=torch.float64)
    twice, _ = parts(module, rows)
    assert abs(twice - even) > 1e-4
    assert (before - call(module, inputs)).item() == pytest.approx(twice - even, abs=1e-9)


def test_equal_domains_leave_only_the_penalty():
    module, inputs = make("wdgrl"), batch(6, 6)
    same = {**inputs, "target_features": inputs["source_features"]}
    assert call(module, same).item() == pytest.approx(10 * parts(module, same)[1], abs=1e-5)
    flat = make("wdgrl", depth=0)
    nn.init.zeros_(flat.critic[0].weight)
    assert call(flat, inputs).item() == pytest.approx(10)  # a slope of 0 everywhere costs γ
    with torch.no_grad():
        flat.critic[0].weight[0, 0] = (
            1.0  # a slope of 1 costs nothing, and sees the means' difference in its direction
        )
    apart = inputs["target_features"][:, 0].mean() - inputs["source_features"][:, 0].mean()
    assert call(flat, inputs).item() == pytest.approx(apart.item(), abs=1e-6)
    assert call(flat, same).item() == pytest.approx(0, abs=1e-6)


def test_the_critic_finds_the_distance_of_two_points():
    """All rows of a domain in one place: the Wasserstein distance is how far apart these are, D = 5. Against a soft
    penalty the best slope is 1 + D/2γ, not 1, and the best loss -D - D²/4γ."""
    module = make("wdgrl", width=2, hidden=32)
    points = {"source_features": torch.zeros(8, 2), "target_features": torch.tensor([3.0, 4.0]).expand(8, 2)}
    inputs = {**points, "source_weights": torch.ones(8), "strength": torch.tensor(0.0)}
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = module(**inputs)
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(-5 - 25 / 40, abs=0.02)


def test_the_encoder_gets_the_distance_and_not_the_penalty():
    """A huge penalty moves no feature; the distance's own gradient comes back, so that descending on it closes in."""
    inputs = batch()
    features = [inputs["source_features"], inputs["target_features"]]
    weak, strong = (make("wdgrl", penalty=p) for p in (1.0, 1e6))
    found = torch.autograd.grad(call(weak, inputs), features)
    for a, b in zip(found, torch.autograd.grad(call(strong, inputs), features), strict=True):
        torch.testing.assert_close(a, b)
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
