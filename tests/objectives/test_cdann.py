"""CDANN: one discriminator a class, rows counted by their class probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, softmax
from torch import nn


def scores(module, x: np.ndarray) -> np.ndarray:
    """(rows, classes), class by class: the k-th weights of every layer are one MLP."""
    layers = [layer for layer in module.discriminators if hasattr(layer, "weight")]
    columns = []
    for k in range(len(layers[0].weight)):
        h = x
        for i, layer in enumerate(layers):
            h = h @ array(layer.weight[k]) + array(layer.bias[k])
            h = np.maximum(h, 0) if i + 1 < len(layers) else h
        columns.append(h[:, 0])
    return np.stack(columns, 1)


def reference(module, inputs) -> float:
    source, target = (scores(module, array(inputs[f"{d}_features"])) for d in ("source", "target"))
    labels, weights, p = (
        inputs["source_labels"].numpy(),
        array(inputs["source_weights"]),
        array(inputs["target_logits"]),
    )
    known = labels >= 0
    of_its_class = source[np.arange(len(labels)), np.maximum(labels, 0)]
    s = np.average(np.logaddexp(0, -of_its_class)[known], weights=weights[known])
    t = (softmax(p) * np.logaddexp(0, target)).sum(1).mean()
    return float(s + t) / 2


@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9)])
@pytest.mark.parametrize("depth", [0, 2])
def test_value_given_the_discriminators(n, m, depth):
    module, inputs = make("cdann", depth=depth), batch(n, m)
    assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-6)
    inputs["source_weights"] = torch.linspace(0.2, 2.0, n)
    inputs["source_labels"][1] = -100
    assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-6)


def test_certain_rows_of_one_class_reach_its_discriminator_only():
    module, inputs = make("cdann"), batch()
    inputs["source_labels"] = torch.full((7,), 1)
    inputs["target_logits"] = torch.tensor([-1e4, 1e4, -1e4]).expand(5, 3)
    weight = module.discriminators[0].weight
    (gradient,) = torch.autograd.grad(call(module, inputs), weight)
    assert gradient[1].abs().max() > 1e-5
    assert gradient[[0, 2]].abs().max() == 0


def test_discriminators_that_cannot_tell_score_log_2():
    module, inputs = make("cdann"), batch()
    nn.init.zeros_(module.discriminators[-2].weight)
    nn.init.zeros_(module.discriminators[-2].bias)
    assert call(module, inputs).item() == pytest.approx(math.log(2))


def test_classes_of_another_frequency_move_no_feature():
    """The same rows in both domains, but one class three times as common: the best discriminators are constants,
    that class's log-ratio of frequencies, and send nothing back."""
    module = make("cdann", classes=2, hidden=8)
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 0, 1, 1])
    source = torch.cat([rows[:2], rows[:2], rows[:2], rows[2:]]).requires_grad_()
    labels = torch.cat([classes[:2], classes[:2], classes[:2], classes[2:]])
    logits = torch.where(torch.arange(2) == classes.unsqueeze(1), 1e4, -1e4)
    last = module.discriminators[-2]
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([[math.log(0.75 / 0.5)], [math.log(0.25 / 0.5)]]))
    inputs = {
        "source_features": source,
        "target_features": rows,
        "source_labels": labels,
        "target_logits": logits,
        "source_weights": torch.ones(8),
        "strength": torch.tensor(1.0),
    }
    gradients = torch.autograd.grad(module(**inputs), [*module.parameters(), source])
    assert all(g.abs().max() < 1e-6 for g in gradients)
    inputs["source_weights"] = torch.tensor([2 / 3] * 6 + [2.0] * 2)  # the weights that undo it
    with torch.no_grad():
        last.bias.zero_()
    assert module(**inputs).item() == pytest.approx(math.log(2))
    assert all(g.abs().max() < 1e-6 for g in torch.autograd.grad(module(**inputs), list(module.parameters())))


def test_classes_may_be_numbered_otherwise():
    module, inputs = make("cdann"), batch()
    value, order = call(module, inputs), torch.tensor([2, 0, 1])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter[order].clone())
    renamed = {
        "target_logits": inputs["target_logits"][:, order],
        "source_labels": order.argsort()[inputs["source_labels"]],
    }
    torch.testing.assert_close(call(module, inputs, **renamed), value)


def test_one_class_is_dann():
    inputs = batch(classes=1)
    one, dann = make("cdann", classes=1, hidden=16), make("dann", hidden=16)
    with torch.no_grad():
        for theirs, mine in zip(one.parameters(), dann.parameters(), strict=True):
            theirs.copy_((mine.mT if mine.ndim == 2 else mine).unsqueeze(0))
    torch.testing.assert_close(call(one, inputs), call(dann, inputs))
