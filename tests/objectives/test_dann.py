"""Gradient reversal and DANN."""

from __future__ import annotations

import math

import pytest
import torch
from cases import array, batch, call, domain_entropy, make, mlp
from torch import nn

from hftransfer.objectives.adversarial import Discriminator, domain_loss, reverse_gradient


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


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_features_get_the_reversed_gradient_and_the_discriminator_its_own(strength):
    module, inputs = make("dann"), batch(dtype=torch.float64)
    module.double()
    x, y = inputs["source_features"], inputs["target_features"]
    weights = list(module.parameters())
    plain = torch.autograd.grad(domain_loss(module.discriminator(x), module.discriminator(y)), [x, y, *weights])
    given = torch.autograd.grad(call(module, inputs, strength=torch.tensor(strength)), [x, y, *weights])
    for found, wanted in zip(given[:2], plain[:2], strict=True):
        torch.testing.assert_close(found, -strength * wanted)
    for found, wanted in zip(given[2:], plain[2:], strict=True):
        torch.testing.assert_close(found, wanted)


def test_gradcheck():
    module, inputs = make("dann", hidden=8).double(), batch(4, 3, dtype=torch.float64)
    forward = lambda x, y: module(x, y, torch.tensor(-1.0))  # noqa: E731
    assert torch.autograd.gradcheck(forward, (inputs["source_features"], inputs["target_features"]))


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


def test_invariances():
    module, inputs = make("dann"), batch()
    value = call(module, inputs)
    shuffled = {**inputs, "source_features": inputs["source_features"].flip(0)}
    torch.testing.assert_close(call(module, shuffled), value)
    # Which domain is called 1 is a matter of sign.
    swapped = {
        **inputs,
        "source_features": inputs["target_features"],
        "target_features": inputs["source_features"],
    }
    last = module.discriminator[-2]
    with torch.no_grad():
        last.weight.neg_()
        last.bias.neg_()
    torch.testing.assert_close(call(module, swapped), value)


def test_discriminator_has_nothing_that_mixes_rows_or_draws_noise():
    allowed = (nn.Linear, nn.ReLU, nn.Flatten, Discriminator)
    assert all(isinstance(layer, allowed) for layer in Discriminator(6).modules())
    module, inputs = make("dann").train(), batch(dtype=torch.float32)
    assert torch.equal(call(module, inputs), call(module, inputs))


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"hidden": 2.5}, {"depth": -1}, {"hidden": True}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="must be a whole number of at least"):
        make("dann", **settings)
