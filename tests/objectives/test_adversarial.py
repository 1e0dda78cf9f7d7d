"""What the adversarial objectives share: the MLP, gradient reversal, row weights, and log 2 for who cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import WIDTH, array, batch, call, make
from torch import nn

from hftransfer.objectives.adversarial import Discriminator, normalized_weights, reverse_gradient, weighted_mean
from hftransfer.objectives.alignment.dann import DANN


def test_reversal_is_identity_forward_and_minus_strength_backward():
    x, weights = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    for strength in (0.0, 0.3, 1.0, 2.5):
        out = reverse_gradient(x, torch.tensor(strength))
        assert torch.equal(out, x)
        torch.testing.assert_close(torch.autograd.grad((out * weights).sum(), x)[0], -strength * weights)


@pytest.mark.parametrize(("depth", "outputs"), [(0, 1), (0, 4), (2, 1), (2, 4)])
def test_groups_are_separate_mlps(depth, outputs):
    torch.manual_seed(0)
    module, x = Discriminator(6, 5, depth, outputs, groups=3), torch.randn(7, 6)
    found = module(x).view(7, 3, outputs)
    for k in range(3):
        one = Discriminator(6, 5, depth, outputs)
        with torch.no_grad():
            for mine, theirs in zip(one.parameters(), module.parameters(), strict=True):
                mine.copy_(theirs[k].mT if theirs.ndim == 3 else theirs[k])
        torch.testing.assert_close(found[:, k], one(x).view(7, outputs))


def test_groups_start_as_linear_layers_do():
    torch.manual_seed(0)
    grouped, plain = Discriminator(64, 200, 1, groups=5), nn.Linear(64, 1000)
    assert grouped[0].weight.abs().max().item() == pytest.approx(plain.weight.abs().max().item(), rel=1e-2)
    assert grouped[0].weight.std().item() == pytest.approx(plain.weight.std().item(), rel=2e-2)
    assert grouped[0].bias.std().item() == pytest.approx(plain.bias.std().item(), rel=5e-2)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_gradient_written_out_is_that_of_autograd_twice(depth):
    """Its value, and the gradient of a loss on it in every weight, against create_graph."""
    torch.manual_seed(0)
    module = Discriminator(6, 16, depth).double()
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    found = module.input_gradient(x)
    torch.testing.assert_close(found, wanted)
    weights = [layer.weight for layer in module if isinstance(layer, nn.Linear)]
    losses = [(torch.linalg.vector_norm(g, dim=1) - 1).square().mean() for g in (found, wanted)]
    for mine, theirs in zip(*(torch.autograd.grad(loss, weights) for loss in losses), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_weighted_mean():
    g = torch.Generator().manual_seed(0)
    values, weights = torch.randn(9, generator=g), torch.rand(9, generator=g)
    assert weighted_mean(values, weights).item() == pytest.approx(
        np.average(array(values), weights=array(weights)), abs=1e-6
    )
    assert normalized_weights(weights).sum().item() == pytest.approx(9, abs=1e-5)
    assert torch.equal(weighted_mean(values, torch.ones(9)), values.mean())
    assert weighted_mean(values, torch.zeros(9)).item() == 0


def test_discriminators_that_cannot_tell_score_the_log_of_what_they_tell_apart():
    inputs = batch()
    inputs["source_domains"] = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    kinds = {"dann": math.log(2), "cdan_e": math.log(2), "cdann": math.log(2), "iwan": 2 * math.log(2)}
    for module, score in [*((make(k), v) for k, v in kinds.items()), (DANN(WIDTH, 3, sources="each"), math.log(4))]:
        for network in (m for m in module.modules() if isinstance(m, Discriminator)):
            nn.init.zeros_(network[-2].weight)
            nn.init.zeros_(network[-2].bias)
        assert call(module, inputs).item() == pytest.approx(score), type(module)
