"""DeepJDOT: the plan against a linear program, its marginals, where the gradient goes, and a missing POT."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import array, batch, call, domains, make, softmax
from moment_cases import weighted
from processes import script
from scipy.optimize import linprog
from scipy.special import logsumexp

from hftransfer.objectives.alignment import deepjdot

SETTINGS = {"alpha": 0.3, "label_weight": 0.7}


def cost(inputs, alpha: float = 0.3, label_weight: float = 0.7) -> np.ndarray:
    (x, y), labels = domains(inputs), inputs["source_labels"]
    p = softmax(array(inputs["target_logits"]))
    c = np.zeros((len(x), len(y)))
    for i, j in itertools.product(range(len(x)), range(len(y))):
        c[i, j] = alpha * ((x[i] - y[j]) ** 2).sum()
        c[i, j] -= label_weight * np.log(p[j, labels[i]]) if labels[i] >= 0 else 0
    return c


def cheapest(c: np.ndarray, w: np.ndarray) -> float:
    """The transport problem as a linear program."""
    n, m = c.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    marginals = np.concatenate([w / w.sum(), np.full(m, 1 / m)])
    return linprog(c.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=marginals).fun


def plan_of(module, inputs) -> np.ndarray:
    """The plan that `forward` used."""
    seen = []
    solve = module._plan
    module._plan = lambda *arguments: seen.append(solve(*arguments)) or seen[-1]
    call(module, inputs)
    del module._plan
    return array(seen[0])


def test_value_is_the_cheapest_transport():
    """Rows without a label are matched by their features; weights are masses."""
    module = make("deepjdot", **SETTINGS)
    for (n, m), unlabelled in itertools.product([(7, 5), (4, 9), (6, 6), (1, 4), (4, 1)], (False, True)):
        for inputs in (batch(n, m), weighted(n, m)):
            if unlabelled:
                inputs["source_labels"][::3] = -100
            expected = cheapest(cost(inputs), array(inputs["source_weights"]))
            assert call(module, inputs).item() == pytest.approx(expected, rel=1e-5), (n, m, unlabelled)


@pytest.mark.parametrize("regularization", [0.0, 0.1])
def test_marginals_are_the_source_weights_and_equal_shares_of_the_target(regularization):
    inputs, module = weighted(7, 5), make("deepjdot", regularization=regularization)
    inputs["source_weights"][0] = 0
    plan, w = plan_of(module, inputs), array(inputs["source_weights"])
    assert plan[0].sum() == 0
    assert np.allclose(plan.sum(1), w / w.sum(), atol=1e-5)
    assert np.allclose(plan.sum(0), 1 / 5, atol=1e-5)


@pytest.mark.parametrize("regularization", [0.05, 0.2])
def test_entropic_plan_is_sinkhorns(regularization):
    """Potentials in the logarithm, many steps; the width is a share of the mean cost above row and column minima."""
    inputs = weighted(7, 5)
    module, c = make("deepjdot", **SETTINGS, regularization=regularization), cost(inputs)
    above = c - c.min(1, keepdims=True)
    above -= above.min(0)
    k = -c / (regularization * above.mean())
    a, b = array(inputs["source_weights"]), np.full(5, 1 / 5)
    f, g = np.zeros(7), np.zeros(5)
    for _ in range(5000):
        f = np.log(a / a.sum()) - logsumexp(k + g, axis=1)
        g = np.log(b) - logsumexp(k + f[:, None], axis=0)
    expected = np.exp(k + f[:, None] + g)
    assert np.allclose(plan_of(module, inputs), expected, atol=1e-4)
    assert call(module, inputs).item() == pytest.approx((expected * c).sum(), rel=1e-3)


def test_a_far_outlier_or_a_sharp_plan_does_not_break_sinkhorn():
    inputs = batch()
    inputs["source_features"] = torch.cat([1e4 * inputs["source_features"][:1], inputs["source_features"][1:]])
    for regularization in (0.2, 0.01):
        plan = plan_of(make("deepjdot", regularization=regularization), inputs)
        assert np.allclose(plan.sum(1), 1 / 7, atol=1e-3)
        assert np.allclose(plan.sum(0), 1 / 5, atol=1e-3)


@pytest.mark.parametrize("regularization", [0.0, 0.1])
def test_the_plan_is_a_constant_for_the_gradient(regularization):
    module, inputs = make("deepjdot", **SETTINGS, regularization=regularization), weighted(dtype=torch.float64)
    plan = torch.from_numpy(plan_of(module, inputs))
    x, y, z = (inputs[name] for name in ("source_features", "target_features", "target_logits"))
    squared = (x.unsqueeze(1) - y.unsqueeze(0)).square().sum(-1)
    surprise = -torch.stack([z.log_softmax(-1)[:, label] for label in inputs["source_labels"]])
    by_hand = (plan * (0.3 * squared + 0.7 * surprise)).sum()
    found, wanted = (torch.autograd.grad(v, [x, y, z]) for v in (call(module, inputs), by_hand))
    torch.testing.assert_close(found, wanted)


def test_what_is_not_finite_gives_a_value_that_is_not_and_no_endless_search():
    inputs = batch()
    inputs["source_features"] = torch.full_like(inputs["source_features"], float("nan"))
    assert not torch.isfinite(call(make("deepjdot"), inputs))


def test_without_pot_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(deepjdot, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "hf-domain-adaptation\[transport\]"'):
        make("deepjdot")


def test_pot_is_imported_only_when_a_plan_is_needed(tmp_path):
    build = "from hftransfer.objectives.alignment.deepjdot import DeepJDOT; DeepJDOT()"
    assert script(f"import sys; {build}; print('ot' in sys.modules)", log=tmp_path / "log") == "False\n"
