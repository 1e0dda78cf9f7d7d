"""IWAN: weights from a classifier that plays no game, and the game they weigh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, domain_entropy, domains, make, mlp
from moment_cases import weighted
from torch import nn


def importance(module, x: np.ndarray) -> np.ndarray:
    """1 - D."""
    return 1 - 1 / (1 + np.exp(-mlp(module.weigher, x)))[:, 0]


def reference(module, inputs) -> float:
    (s, t), given, total = domains(inputs), array(inputs["source_weights"]), 0.0
    for classifier, weights in ((module.weigher, given), (module.discriminator, given * importance(module, s))):
        source, target = (mlp(classifier, x)[:, 0] for x in (s, t))
        total += domain_entropy(source, target, weights / weights.mean())
    return total


def test_value_given_the_classifiers():
    module = make("iwan")
    for inputs in (batch(), weighted(), batch(4, 9), weighted(4, 9)):
        inputs["source_features"] = inputs["source_features"].detach() * 10  # so that the weights differ
        assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-5)


def test_gradients_by_hand():
    """The encoder gets the second game's alone, with the weights as they are; the first classifier its own alone."""
    module, inputs = make("iwan", hidden=8).double(), batch(dtype=torch.float64)
    x, y = inputs["source_features"], inputs["target_features"]
    weights = torch.from_numpy(importance(module, array(x)))
    softplus = nn.functional.softplus
    plain = lambda d, w: ((w * softplus(-d(x))).sum() / w.sum() + softplus(d(y)).mean()) / 2  # noqa: E731
    first, second = plain(module.weigher, torch.ones(7)), plain(module.discriminator, weights)
    found = torch.autograd.grad(call(module, inputs, strength=torch.tensor(0.4)), [x, y, *module.parameters()])
    wanted = [-0.4 * g for g in torch.autograd.grad(second, [x, y], retain_graph=True)]
    wanted += torch.autograd.grad(first, list(module.weigher.parameters()))
    wanted += torch.autograd.grad(second, list(module.discriminator.parameters()))
    torch.testing.assert_close(list(found), wanted)


def test_a_first_classifier_that_is_sure_of_every_row_leaves_weights():
    """1 - D underflows for all of them; only their ratios matter."""
    module, inputs = make("iwan", width=1, depth=0), batch(width=1)
    with torch.no_grad():
        module.weigher[0].weight.fill_(1.0)
        module.weigher[0].bias.fill_(1000.0)
    x = inputs["source_features"] = torch.arange(7.0).unsqueeze(1)
    weights = torch.exp(-x[:, 0])
    source, target = (array(module.discriminator(v)) for v in (x, inputs["target_features"]))
    first = (1000 + array(inputs["target_features"]).mean()) / 2
    assert call(module, inputs).item() - first == pytest.approx(
        domain_entropy(source, target, array(weights / weights.mean())), abs=1e-3
    )
