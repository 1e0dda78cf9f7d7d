"""Rules on predictions against NumPy; penalty and multipliers; what cannot be a rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, descend, make, softmax

from hftransfer.objectives import build_objectives, parse_objectives


def named(task="sequence-classification", **settings):
    specs = parse_objectives({"constraint": {"rows": "all", **settings}})
    return build_objectives(specs, 6, 3, class_names=("cat", "dog", "animal"), task=task)[0]["constraint"].double()


def logits(seed=0, rows=9) -> torch.Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(p: torch.Tensor) -> torch.Tensor:
    """A rule of one's own, of two values."""
    return torch.stack([p[:, 0].mean() - 0.5, p[:, 1].var()])


Z = logits()
P = softmax(array(Z))


def squares(g: np.ndarray) -> float:
    return (np.maximum(g, 0) ** 2).sum()


def test_proportions():
    module = named(proportions={"cat": [0.5, 0.9], "dog": [0.0, 0.1]}, rho=2.0)
    cat, dog, _ = P.mean(0)
    g = np.array([0.5 - cat, cat - 0.9, 0.0 - dog, dog - 0.1])
    np.testing.assert_allclose(array(module.values(Z)), g, rtol=1e-9)
    assert module(logits=Z).item() == pytest.approx(squares(g), rel=1e-9)
    assert named(proportions={"cat": [0.0, 1.0]})(logits=Z).item() == 0


def test_implications_of_several_labels_a_row():
    rules = [["cat", "animal"], [["cat", "dog"], "animal"]]
    module = named("multi-label-classification", implies=rules, tolerance=0.01)
    p = 1 / (1 + np.exp(-array(Z)))
    either = 1 - (1 - p[:, 0]) * (1 - p[:, 1])
    g = np.array([np.maximum(0, x - p[:, 2]).mean() - 0.01 for x in (p[:, 0], either)])
    np.testing.assert_allclose(array(module.values(Z)), g, rtol=1e-9)
    assert module(logits=Z).item() == pytest.approx(0.5 * squares(g), rel=1e-9)


def test_implications_of_groups_of_classes():
    g = np.maximum(0, P[:, 2] - P[:, 0] - P[:, 1]).mean()
    assert named(implies=[["animal", ["cat", "dog"]]]).values(Z).item() == pytest.approx(g, rel=1e-9)


@pytest.mark.parametrize("function", [spread, "test_constraint:spread"])
def test_a_function_of_ones_own(function):
    g = np.array([P[:, 0].mean() - 0.5, P[:, 1].var(ddof=1)])
    for sense, total in (("zero", (g**2).sum()), ("at_most", squares(g))):
        module = named(function=function, outputs=2, sense=sense)
        assert module(logits=Z).item() == pytest.approx(0.5 * total, rel=1e-9), sense


def test_multipliers():
    """Three steps by hand: at most 0 with the max, equal to 0 without."""
    rho, step, mu = 2.0, 0.5, np.zeros(3)
    how = {"proportions": {"cat": [0.6, 0.9]}, "method": "lagrangian", "rho": rho, "step": step}
    module = named(function=lambda p: p[:, 1].mean() - 0.4, **how)
    for seed in range(3):
        z = logits(seed)
        mean = softmax(array(z)).mean(0)
        g = np.array([0.6 - mean[0], mean[0] - 0.9, mean[1] - 0.4])
        bound = (np.maximum(0, mu[:2] + rho * g[:2]) ** 2 - mu[:2] ** 2) / (2 * rho)
        wanted = bound.sum() + mu[2] * g[2] + rho / 2 * g[2] ** 2
        assert module(logits=z).item() == pytest.approx(wanted, rel=1e-9)
        mu = mu + step * g
        mu[:2] = np.maximum(0, mu[:2])
        np.testing.assert_allclose(array(module.multipliers), mu, rtol=1e-9)
    before = module.multipliers.clone()
    module.eval()(logits=Z)
    assert torch.equal(module.multipliers, before)
    other = named(function=spread, outputs=1, **how)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.multipliers, before)


def solve(method: str) -> float:
    """Logits that pay for leaving where they are; how much of the class there is at the end, of 0.6 asked for."""
    start = logits(rows=40)
    z, module = start.clone().requires_grad_(), named(proportions={"cat": [0.6, 1.0]}, method=method, step=0.5)
    descend(lambda: module(logits=z) + 0.2 * (z - start).square().mean(), [z], 600, 0.05)
    return z.detach().softmax(-1)[:, 0].mean().item()


def test_a_penalty_gives_way_and_multipliers_do_not():
    share = logits(rows=40).softmax(-1)[:, 0].mean().item()
    assert share < 0.45
    assert share + 0.02 < solve("penalty") < 0.58
    assert solve("lagrangian") == pytest.approx(0.6, abs=0.005)


def test_by_default_it_reads_the_target():
    inputs, module = batch(), make("constraint")
    wanted = max(0, 0.6 - softmax(array(inputs["target_logits"])).mean(0)[0]) ** 2 / 2
    assert call(module, inputs).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "constraint has no rule"),
        ({"proportions": {"cta": [0, 1]}}, "names class 'cta'; there is cat, dog, animal.*Did you mean 'cat'"),
        ({"proportions": {"cat": [0.9, 0.1]}}, "needs \\[low, high\\]"),
        ({"proportions": {"cat": 0.5}}, "needs \\[low, high\\]"),
        ({"proportions": {"cat": [0.1, math.nan]}}, "proportions: cat must be a finite number"),
        ({"implies": ["cat", "dog"]}, "implies takes pairs"),
        ({"implies": [["cat", "cow"]]}, "names class 'cow'"),
        ({"function": "nowhere:rule"}, "cannot be imported"),
        ({"function": "math"}, "must be a Python callable or 'module:name'"),
        ({"function": "math:pi"}, "must be a Python callable"),
        ({"function": len, "method": "augmented"}, "method='augmented' must be"),
        ({"function": len, "sense": "less"}, "sense='less' must be"),
        ({"function": len, "rho": 0}, "rho=0 must be a positive number"),
        ({"function": len, "outputs": 0}, "outputs=0 must be a whole number"),
        ({"function": len, "tolerance": -1}, "tolerance=-1 must be"),
        ({"function": len, "task": "regression"}, "regression has none"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        named(**settings)


@pytest.mark.parametrize("function", [lambda p: p, lambda p: 0.5])
def test_a_function_that_gives_something_else(function):
    with pytest.raises(ValueError, match="the function gives (shape \\(9, 3\\)|float), where outputs=2"):
        named(function=function, outputs=2)(logits=Z)
