"""MCD: two heads' errors and their discrepancy, each with its own direction for the encoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, mlp, softmax
from torch import nn


def parts(module, inputs) -> tuple[list[float], float]:
    """Both heads' weighted source errors, and their mean absolute difference on the target."""
    labels, weights = inputs["source_labels"].numpy(), array(inputs["source_weights"])
    known, errors, targets = labels >= 0, [], []
    for head in (module.first, module.second):
        p = softmax(mlp(head, array(inputs["source_features"])))
        error = -np.log(p[np.arange(len(p)), np.maximum(labels, 0)])
        errors.append(np.average(error[known], weights=weights[known]))
        targets.append(softmax(mlp(head, array(inputs["target_features"]))))
    return errors, np.abs(targets[0] - targets[1]).mean()


@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9)])
def test_value_given_the_heads(n, m):
    module, inputs = make("mcd"), batch(n, m)
    for weights in (torch.ones(n), torch.linspace(0.2, 2.0, n)):
        inputs["source_weights"] = weights
        errors, discrepancy = parts(module, inputs)
        assert call(module, inputs).item() == pytest.approx(sum(errors) - discrepancy, abs=1e-6)
        inputs["source_labels"][0] = -100  # the second time a row has no label


def test_heads_start_apart_and_equal_heads_have_no_discrepancy():
    module, inputs = make("mcd"), batch()
    assert parts(module, inputs)[1] > 1e-3
    module.second.load_state_dict(module.first.state_dict())
    errors, _ = parts(module, inputs)
    assert call(module, inputs).item() == pytest.approx(2 * errors[0], abs=1e-6)


def test_known_values():
    module, inputs = make("mcd", depth=0), batch()
    for head in (module.first, module.second):
        nn.init.zeros_(head[0].weight)
        nn.init.zeros_(head[0].bias)
    assert call(module, inputs).item() == pytest.approx(2 * math.log(3))
    unlabelled = {"source_labels": torch.full((7,), -100)}
    with torch.no_grad():
        module.first[0].bias[0] = module.second[0].bias[1] = 100.0
    assert call(module, inputs, **unlabelled).item() == pytest.approx(-2 / 3)  # as far apart as can be


def test_heads_part_and_the_encoder_draws_them_together():
    module, inputs = make("mcd", hidden=8), batch()
    unlabelled = {"source_labels": torch.full((7,), -100), "strength": torch.tensor(1.0)}
    before = parts(module, inputs)[1]
    target, weight = inputs["target_features"], module.first[0].weight
    towards, apart = torch.autograd.grad(call(module, inputs, **unlabelled), [target, weight])
    moved = {**inputs, "target_features": (target - 1e-2 * towards / towards.norm()).detach()}
    assert parts(module, moved)[1] < before - 1e-5
    with torch.no_grad():
        weight -= 1e-2 * apart / apart.norm()
    assert parts(module, inputs)[1] > before + 1e-5


def test_the_encoder_is_trained_on_the_sources_labels():
    module, inputs = make("mcd", hidden=8), batch()
    source = inputs["source_features"]
    (gradient,) = torch.autograd.grad(call(module, inputs), source)
    moved = {**inputs, "source_features": (source - 1e-2 * gradient / gradient.norm()).detach()}
    assert sum(parts(module, moved)[0]) < sum(parts(module, inputs)[0]) - 1e-4
