"""OSBP: K + 1 classes on the source, the border of the last one on the target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import CLASSES, array, batch, call, make, mlp, softmax
from torch import nn


def parts(module, inputs) -> tuple[float, float]:
    """Source error and target border."""
    labels, weights = inputs["source_labels"].numpy(), array(inputs["source_weights"])
    known = labels >= 0
    p = softmax(mlp(module.head, array(inputs["source_features"])))
    assert p.shape[1] == CLASSES + 1
    error = -np.log(p[np.arange(len(p)), np.maximum(labels, 0)])
    unknown = softmax(mlp(module.head, array(inputs["target_features"])))[:, -1]
    border = -module.boundary * np.log(unknown) - (1 - module.boundary) * np.log(1 - unknown)
    return np.average(error[known], weights=weights[known]), border.mean()


@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9)])
@pytest.mark.parametrize("boundary", [0.5, 0.3])
def test_value_given_the_head(n, m, boundary):
    module, inputs = make("osbp", boundary=boundary), batch(n, m)
    for weights in (torch.ones(n), torch.linspace(0.2, 2.0, n)):
        inputs["source_weights"] = weights
        assert call(module, inputs).item() == pytest.approx(sum(parts(module, inputs)), abs=1e-6)
        inputs["source_labels"][0] = -100  # the second time a row has no label


@pytest.mark.parametrize("boundary", [0.5, 0.3])
def test_the_border_costs_least_at_the_boundary(boundary):
    """A head that answers b for every row: the entropy of b, and no gradient to the target."""
    module, inputs = make("osbp", boundary=boundary, depth=0), batch()
    nn.init.zeros_(module.head[0].weight)
    with torch.no_grad():
        module.head[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, math.log(3 * boundary / (1 - boundary))]))
    unlabelled = {"source_labels": torch.full((7,), -100)}
    value = call(module, inputs, **unlabelled)
    entropy = -boundary * math.log(boundary) - (1 - boundary) * math.log(1 - boundary)
    assert value.item() == pytest.approx(entropy, abs=1e-6)
    assert all(g.abs().max() < 1e-6 for g in torch.autograd.grad(value, list(module.parameters())))
    torch.testing.assert_close(module.unknown_probability(inputs["target_features"]), torch.full((5,), boundary))


def test_the_encoder_takes_each_target_row_to_its_side():
    module, inputs = make("osbp", width=1, depth=0), batch(width=1)
    with torch.no_grad():
        module.head[0].weight.copy_(torch.tensor([[0.0], [0.0], [0.0], [1.0]]))
        module.head[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, math.log(3)]))  # ½ at 0
    target = inputs["target_features"] = torch.tensor([[-1.0], [-0.2], [0.2], [1.0], [2.0]]).requires_grad_()
    (gradient,) = torch.autograd.grad(call(module, inputs), target)
    before = module.unknown_probability(target)
    after = module.unknown_probability(target - gradient)
    assert torch.equal(after < before, before < 0.5)
    assert (after - before).abs().min() > 1e-3


def test_the_encoder_is_trained_on_the_sources_labels():
    module, inputs = make("osbp", hidden=8), batch()
    source = inputs["source_features"]
    (gradient,) = torch.autograd.grad(call(module, inputs), source)
    moved = {**inputs, "source_features": (source - 1e-2 * gradient / gradient.norm()).detach()}
    assert parts(module, moved)[0] < parts(module, inputs)[0] - 1e-4


def test_the_unknown_probability_is_that_of_the_last_class():
    module, inputs = make("osbp"), batch()
    x = inputs["target_features"]
    found = module.unknown_probability(x)
    np.testing.assert_allclose(array(found), softmax(mlp(module.head, array(x)))[:, -1], atol=1e-6)
    assert not found.requires_grad
