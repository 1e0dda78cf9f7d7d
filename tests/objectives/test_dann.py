"""Gradient reversal and DANN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import WIDTH, array, batch, call, domain_entropy, make, mlp, softmax
from torch import nn

from hftransfer.objectives.adversarial import Discriminator, reverse_gradient
from hftransfer.objectives.alignment.dann import DANN


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.5])
def test_reversal_is_identity_forward_and_minus_strength_backward(strength):
    x = torch.randn(4, 3, requires_grad=True)
    weights = torch.randn(4, 3)
    out = reverse_gradient(x, torch.tensor(strength))
    assert torch.equal(out, x)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    torch.testing.assert_close(gradient, -strength * weights)


def test_reversal_passes_gradcheck_once_the_sign_is_undone():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: reverse_gradient(a, torch.tensor(-1.0)).sin(), x)


@pytest.mark.parametrize(("hidden", "depth"), [(256, 2), (16, 1), (8, 3), (8, 0)])
def test_value_given_the_discriminator(hidden, depth):
    module, inputs = make("dann", hidden=hidden, depth=depth), batch()
    source, target = (mlp(module.discriminator, array(inputs[f"{d}_features"])) for d in ("source", "target"))
    assert call(module, inputs).item() == pytest.approx(domain_entropy(source, target), abs=1e-6)


def test_each_domain_counts_the_same_whatever_its_rows():
    module, inputs = make("dann"), batch()
    twice = {**inputs, "target_features": inputs["target_features"].repeat(2, 1)}
    torch.testing.assert_close(call(module, inputs), call(module, twice))


def test_a_discriminator_that_cannot_tell_scores_log_2():
    module, inputs = make("dann"), batch()
    nn.init.zeros_(module.discriminator[-2].weight)
    nn.init.zeros_(module.discriminator[-2].bias)
    assert call(module, inputs).item() == pytest.approx(math.log(2))


def test_equal_domains_leave_no_less_than_log_2():
    """On the same rows no discriminator beats a coin: the best it can do is log 2."""
    module, inputs = make("dann", hidden=16), batch(6, 6)
    same = {**inputs, "target_features": inputs["source_features"]}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = call(module, same)
        loss.backward()
        optimizer.step()
        assert loss.item() >= math.log(2) - 1e-6
    assert loss.item() == pytest.approx(math.log(2), abs=1e-3)


def test_discriminator_has_nothing_that_mixes_rows_or_draws_noise():
    allowed = (nn.Linear, nn.ReLU, nn.Flatten, Discriminator)
    assert all(isinstance(layer, allowed) for layer in Discriminator(6).modules())
    module, inputs = make("dann").train(), batch(dtype=torch.float32)
    assert torch.equal(call(module, inputs), call(module, inputs))


def each(num_sources: int, **settings) -> DANN:
    torch.manual_seed(0)
    return DANN(WIDTH, num_sources, sources="each", **settings)


def domain_cross_entropy(module, inputs, domains, weights) -> float:
    """Each domain's weighted mean cross-entropy by itself, then the mean over the domains that have rows."""
    x = np.concatenate([array(inputs["source_features"]), array(inputs["target_features"])])
    target = module.num_sources
    domains = np.concatenate([domains, np.full(len(x) - len(domains), target)])
    weights = np.concatenate([weights, np.ones(len(inputs["target_features"]))])
    error = -np.log(softmax(mlp(module.discriminator, x))[np.arange(len(x)), domains])
    means = [np.average(error[domains == d], weights=weights[domains == d]) for d in np.unique(domains)]
    return float(np.mean(means))


@pytest.mark.parametrize("domains", [[0, 1, 2, 0, 1, 2, 2], [1, 0, 0, 0, 0, 0, 2], [0, 0, 2, 2, 2, 2, 2]])
def test_each_source_and_the_target_are_told_apart_and_count_the_same(domains):
    """The last case lacks a source in the batch."""
    module, inputs = each(3), batch(7, 5)
    inputs["source_domains"] = torch.tensor(domains)
    weights = np.ones(7)
    value = call(module, inputs).item()
    assert value == pytest.approx(domain_cross_entropy(module, inputs, domains, weights), abs=1e-6)
    inputs["source_weights"] = torch.tensor([2.0, 1.0, 0.5, 1.0, 1.5, 0.25, 3.0])
    weights = array(inputs["source_weights"])
    assert call(module, inputs).item() == pytest.approx(
        domain_cross_entropy(module, inputs, domains, weights), abs=1e-6
    )


def test_each_of_one_source_is_the_joint_form():
    module, inputs = each(1), batch()
    source, target = (mlp(module.discriminator, array(inputs[f"{d}_features"])) for d in ("source", "target"))
    wanted = domain_entropy(source[:, 0] - source[:, 1], target[:, 0] - target[:, 1])
    assert call(module, inputs).item() == pytest.approx(wanted, abs=1e-6)


def test_a_blind_discriminator_of_each_source_scores_the_log_of_their_number():
    module, inputs = each(3), batch()
    inputs["source_domains"] = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    nn.init.zeros_(module.discriminator[-2].weight)
    nn.init.zeros_(module.discriminator[-2].bias)
    assert call(module, inputs).item() == pytest.approx(math.log(4))


def test_gradcheck_of_each():
    module, inputs = each(2, hidden=8).double(), batch(4, 3, dtype=torch.float64)
    inputs["source_domains"] = torch.tensor([0, 1, 1, 1])

    def forward(x, y):
        return call(module, inputs, source_features=x, target_features=y, strength=torch.tensor(-1.0))

    assert torch.autograd.gradcheck(forward, (inputs["source_features"], inputs["target_features"]))


def test_bad_sources():
    with pytest.raises(ValueError, match="sources='all' must be 'joint' or 'each'"):
        make("dann", sources="all")
