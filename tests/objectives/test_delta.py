"""DELTA against NumPy; channels' weights; which layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make
from sklearn.linear_model import LogisticRegression

from hftransfer.objectives import REGISTRY, build_objectives, parse_objectives
from hftransfer.objectives.anchoring.delta import channel_importance
from hftransfer.objectives.base import TeacherFacts


def attentive():
    specs = parse_objectives({"delta": {"attention": True}})
    facts = [TeacherFacts("the start", 6, ("0", "1", "2"), True, None, (6, 6))]
    return build_objectives(specs, 6, 3, teachers=lambda where: facts)[0]["delta"]


def expected(pairs, weights=None) -> float:
    total = 0.0
    for i, pair in enumerate(pairs):
        squared = (array(pair.current) - array(pair.teacher)) ** 2
        per_position = squared @ (np.ones(squared.shape[2]) if weights is None else weights[i])
        total += (per_position * array(pair.share)).sum(1).mean()
    return 0.5 * total


def test_value():
    inputs = batch()
    assert call(make("delta"), inputs).item() == pytest.approx(expected(inputs["layer_pairs"]), rel=1e-5)


def test_weighted_channels():
    inputs, module = batch(), attentive()
    weights = torch.rand(12, generator=torch.Generator().manual_seed(0))
    module.importance.copy_(weights)
    want = expected(inputs["layer_pairs"], array(weights).reshape(2, 6))
    assert call(module, inputs).item() == pytest.approx(want, rel=1e-5)
    again = attentive()
    again.load_state_dict(module.state_dict())
    assert torch.equal(call(again, inputs), call(module, inputs))


def test_channels_that_tell_classes_apart_may_move_least():
    """Against scikit-learn's classifier of the same standardised rows: the loss without each channel."""
    g = np.random.default_rng(0)
    y = g.integers(0, 3, 90)
    x = g.normal(size=(90, 5))
    x[:, 1] += 2.0 * (y == 1)
    x[:, 3] += 1.0 * (y == 2)
    labels = torch.from_numpy(np.concatenate([y, [-100]]))
    found = channel_importance(torch.from_numpy(np.concatenate([x, np.full((1, 5), 1e6)])).float(), labels, 0.7)
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    model = LogisticRegression(C=1 / (2 * 1e-3 * len(y)), tol=1e-10, max_iter=10000).fit(z, y)
    loss = lambda r: -model.predict_log_proba(r)[np.arange(90), y].mean()  # noqa: E731
    rise = np.array([loss(np.where(np.arange(5) == c, 0, z)) - loss(z) for c in range(5)])
    e = np.exp(rise / (0.7 * rise.std()))
    np.testing.assert_allclose(array(found), 5 * e / e.sum(), rtol=1e-3)
    assert found.argmax() == 1
    assert found.mean().item() == pytest.approx(1)


def test_layers_are_evenly_spaced_and_end_with_the_last():
    cases = [(4, 12, [2, 5, 8, 11]), (4, 6, [0, 2, 3, 5]), (1, 6, [5]), (0, 3, [0, 1, 2]), (4, 2, [0, 1])]
    for layers, total, wanted in cases:
        assert REGISTRY["delta"].layer_indices({"layers": layers}, total) == wanted, (layers, total)


def test_only_attention_learns_before_training():
    assert REGISTRY["delta"].fit_inputs({}) == ()
    assert set(REGISTRY["delta"].fit_inputs({"attention": True})) == {"teacher_layers", "labels"}
