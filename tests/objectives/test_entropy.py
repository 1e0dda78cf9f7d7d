"""Entropy minimisation and information maximisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, make, softmax

from hftransfer.objectives.probabilities import divergence, entropy, log_mean

KINDS = {"entropy": ("entropy", {}), "im": ("im", {}), "im half": ("im", {"diversity": 0.5})}


def h(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p)).sum(-1)


def im(p: np.ndarray, diversity: float) -> float:
    return h(p).mean() - diversity * h(p.mean(0))


def onehot(*classes: int) -> torch.Tensor:
    """Logits that are certain: probabilities of exactly 0 and 1."""
    return 1e4 * torch.eye(3)[list(classes)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0])
def test_values_are_the_definitions(seed, sharpness):
    inputs = batch(m=9, seed=seed)
    z = sharpness * inputs["target_logits"].detach()
    p = softmax(array(z))
    assert call(make("entropy"), inputs, target_logits=z).item() == pytest.approx(h(p).mean(), rel=1e-5)
    for diversity in (0.3, 1.0, 2.0):
        value = call(make("im", diversity=diversity), inputs, target_logits=z).item()
        assert value == pytest.approx(im(p, diversity), rel=1e-5, abs=1e-6)


def test_pieces():
    g = torch.Generator().manual_seed(0)
    z, y = (torch.randn(6, 4, generator=g, dtype=torch.float64) for _ in range(2))
    p, q = softmax(array(z)), softmax(array(y))
    np.testing.assert_allclose(array(entropy(z.log_softmax(-1))), h(p))
    np.testing.assert_allclose(array(log_mean(z.log_softmax(-1))), np.log(p.mean(0)))
    kl = (p * np.log(p / q)).sum(1)
    np.testing.assert_allclose(array(divergence(z.log_softmax(-1), y.log_softmax(-1))), kl)


@pytest.mark.parametrize("m", [1, 3, 12])
def test_known_values(m):
    flat, one, spread = torch.zeros(m, 3), onehot(*[1] * m), onehot(*(i % 3 for i in range(m)))
    assert make("entropy")(flat).item() == pytest.approx(math.log(3))
    assert make("entropy")(one).item() == make("entropy")(spread).item() == 0
    assert make("im")(flat).item() == pytest.approx(0, abs=1e-6)
    assert make("im")(one).item() == pytest.approx(0, abs=1e-6)  # collapse is no better than knowing nothing
    assert make("im")(spread).item() == pytest.approx(-math.log(min(m, 3)), abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_of_a_nearly_certain_row_is_that_of_float64(name):
    """Where p is 1e-30 or 0 in fp32, an entropy taken from p would give NaN: 0 times infinity."""
    kind, settings = KINDS[name]
    z = torch.tensor([[70.0, 0.0, -3.0], [0.0, 1.0, -200.0], [0.5, 0.0, -300.0]])
    found, exact = z.clone().requires_grad_(), z.double().requires_grad_()
    make(kind, **settings)(found).backward()
    make(kind, **settings)(exact).backward()
    torch.testing.assert_close(found.grad.double(), exact.grad, atol=1e-7, rtol=1e-4)
    assert found.grad[1:, :2].abs().min() > 1e-3  # and rows that can still move, do


def descend(kind: str, z: torch.Tensor) -> torch.Tensor:
    """Predictions after many steps of gradient descent on free logits."""
    z = z.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        make(kind)(z).backward()
        optimizer.step()
    return z.detach().softmax(-1)


def test_entropy_can_end_in_one_class_and_information_maximisation_does_not():
    """What the pages warn of: from rows that lean to one class, one sharpens that, the other spreads them."""
    z = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) * 0.1 + torch.tensor([1.0, 0.0, 0.0])
    alone, with_diversity = descend("entropy", z), descend("im", z)
    assert alone.mean(0)[0] > 0.99
    assert alone.amax(1).min() > 0.99
    assert with_diversity.amax(1).min() > 0.99
    assert with_diversity.mean(0).min() > 0.2
