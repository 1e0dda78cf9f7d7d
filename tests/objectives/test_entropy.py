"""Entropy minimisation and information maximisation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from cases import array, batch, descend, make, softmax

from hftransfer.objectives.probabilities import divergence, entropy, log_mean


def h(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p)).sum(-1)


def test_values_are_the_definitions():
    for seed, sharpness in itertools.product(range(3), (0.1, 1.0, 10.0)):
        z = sharpness * batch(m=9, seed=seed)["target_logits"].detach()
        p = softmax(array(z))
        assert make("entropy")(z).item() == pytest.approx(h(p).mean(), rel=1e-5), (seed, sharpness)
        for diversity in (0.3, 1.0, 2.0):
            wanted = h(p).mean() - diversity * h(p.mean(0))
            value = make("im", diversity=diversity)(z).item()
            assert value == pytest.approx(wanted, rel=1e-5, abs=1e-6), (seed, sharpness)


def test_pieces():
    z, y = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = softmax(array(z)), softmax(array(y))
    np.testing.assert_allclose(array(entropy(z.log_softmax(-1))), h(p))
    np.testing.assert_allclose(array(log_mean(z.log_softmax(-1))), np.log(p.mean(0)))
    kl = (p * np.log(p / q)).sum(1)
    np.testing.assert_allclose(array(divergence(z.log_softmax(-1), y.log_softmax(-1))), kl)


@pytest.mark.parametrize("m", [1, 3, 12])
def test_known_values(m):
    flat, one, spread = torch.zeros(m, 3), 1e4 * torch.eye(3)[[1] * m], 1e4 * torch.eye(3)[[i % 3 for i in range(m)]]
    assert make("entropy")(flat).item() == pytest.approx(math.log(3))
    assert make("entropy")(one).item() == make("entropy")(spread).item() == 0
    assert make("im")(flat).item() == pytest.approx(0, abs=1e-6)
    assert make("im")(one).item() == pytest.approx(0, abs=1e-6)  # collapse is no better than knowing nothing
    assert make("im")(spread).item() == pytest.approx(-math.log(min(m, 3)), abs=1e-6)


@pytest.mark.parametrize(("kind", "settings"), [("entropy", {}), ("im", {}), ("im", {"diversity": 0.5})])
def test_the_gradient_of_a_nearly_certain_row_is_that_of_float64(kind, settings):
    """Where p is 1e-30 or 0 in fp32, an entropy taken from p would give NaN: 0 times infinity."""
    z = torch.tensor([[70.0, 0.0, -3.0], [0.0, 1.0, -200.0], [0.5, 0.0, -300.0]])
    found, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    make(kind, **settings)(found).backward()
    make(kind, **settings)(exact).backward()
    torch.testing.assert_close(found.grad.double(), exact.grad, atol=1e-7, rtol=1e-4)
    assert found.grad[1:, :2].abs().min() > 1e-3  # and rows that can still move, do


def test_entropy_can_end_in_one_class_and_information_maximisation_does_not():
    """What the pages warn of: from rows that lean to one class, one sharpens that, the other spreads them."""
    z = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 0.1 + torch.tensor([1.0, 0.0, 0.0])
    for kind, of_the_rarest in (("entropy", (0.0, 0.01)), ("im", (0.2, 0.34))):
        moved, module = z.clone().requires_grad_(), make(kind)
        descend(lambda: module(moved), [moved], 300, 0.1)  # noqa: B023
        p = moved.detach().softmax(-1)
        assert p.amax(1).min() > 0.99
        assert of_the_rarest[0] <= p.mean(0).min() < of_the_rarest[1], kind
