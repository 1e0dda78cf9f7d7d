"""IWAN: weights from a classifier that plays no game, and the game they weigh."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, domain_entropy, make, mlp
from torch import nn


def importance(module, x: np.ndarray) -> np.ndarray:
    """1 - D."""
    return 1 - 1 / (1 + np.exp(-mlp(module.weigher, x)))[:, 0]


def reference(module, inputs) -> float:
    s, t = array(inputs["source_features"]), array(inputs["target_features"])
    given = array(inputs["source_weights"])
    total = 0.0
    for classifier, weights in ((module.weigher, given), (module.discriminator, given * importance(module, s))):
        source, target = (mlp(classifier, x)[:, 0] for x in (s, t))
        total += domain_entropy(source, target, weights / weights.mean())
    return total


@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 9)])
def test_value_given_the_classifiers(n, m):
    module, inputs = make("iwan"), batch(n, m)
    inputs["source_features"] = inputs["source_features"].detach() * 10  # so that the weights differ
    assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-5)
    inputs["source_weights"] = torch.linspace(0.2, 2.0, n)
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
    for gradient, wanted in zip(found[:2], torch.autograd.grad(second, [x, y], retain_graph=True), strict=True):
        torch.testing.assert_close(gradient, -0.4 * wanted)
    wanted = [*torch.autograd.grad(first, list(module.weigher.parameters()))]
    wanted += torch.autograd.grad(second, list(module.discriminator.parameters()))
    for gradient, by_hand in zip(found[2:], wanted, strict=True):
        torch.testing.assert_close(gradient, by_hand)


def test_source_rows_unlike_the_target_count_little():
    module, inputs = make("iwan", width=1, depth=0), batch(width=1)
    with torch.no_grad():
        module.weigher[0].weight.fill_(8.0)
        module.weigher[0].bias.zero_()
    inputs["source_features"] = torch.tensor([[-1.0], [-1.0], [-1.0], [-1.0], [-1.0], [1.0], [1.0]]).requires_grad_()
    (gradient,) = torch.autograd.grad(call(module, inputs), inputs["source_features"])
    assert gradient[5:].abs().max() < 1e-2 * gradient[:5].abs().min()


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


def test_classifiers_that_cannot_tell_score_twice_log_2():
    module, inputs = make("iwan"), batch()
    for classifier in (module.weigher, module.discriminator):
        nn.init.zeros_(classifier[-2].weight)
        nn.init.zeros_(classifier[-2].bias)
    assert call(module, inputs).item() == pytest.approx(2 * math.log(2))
