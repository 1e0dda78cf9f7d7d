"""L2-SP against NumPy; products of LoRA factors, shards' ends, what settings leave out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import array, batch, call, make

from hftransfer.trainers.teachers.initial_weights import MovedProduct


def expected(weights, alpha, beta, head) -> float:
    near = far = 0.0
    for w in weights:
        if isinstance(w, MovedProduct):
            delta = w.scale * (array(w.b) @ array(w.a) - array(w.initial_b) @ array(w.initial_a))
            near += (delta**2).sum()
        elif w.fresh and head == "decay":
            far += (array(w.current) ** 2).sum()
        else:
            near += ((array(w.current) - array(w.initial)) ** 2).sum()
    return 0.5 * (alpha * near + beta * far)


@pytest.mark.parametrize("head", ["decay", "start"])
def test_value(head):
    inputs = batch(dtype=torch.float32)
    value = call(make("l2_sp", alpha=0.3, beta=0.7, head=head), inputs).item()
    assert value == pytest.approx(expected(inputs["trained_weights"], 0.3, 0.7, head), rel=1e-5)


def test_gradient_is_the_way_back():
    """α (w − w⁰) for the backbone, β w for a new head; of a product, the derivative through both factors."""
    inputs = batch()
    near, head, product = inputs["trained_weights"]
    value = call(make("l2_sp", alpha=0.3, beta=0.7), inputs)
    got = torch.autograd.grad(value, [near.current, head.current, product.a, product.b])
    delta = product.scale * (array(product.b) @ array(product.a) - array(product.initial_b) @ array(product.initial_a))
    want = [
        0.3 * (array(near.current) - array(near.initial)),
        0.7 * array(head.current),
        0.3 * product.scale * array(product.b).T @ delta,
        0.3 * product.scale * delta @ array(product.a).T,
    ]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(array(g), w, rtol=1e-4, atol=1e-5)


def test_lora_that_starts_at_zero_is_measured_as_the_whole_matrix():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, generator=g), torch.randn(7, 2, generator=g)
    product = MovedProduct(a, b, torch.randn(2, 6, generator=g), torch.zeros(7, 2), 2.0)
    assert product.squared_distance().item() == pytest.approx(((2 * b @ a) ** 2).sum().item(), rel=1e-5)
    assert product.squared_norm().item() == pytest.approx(((2 * b @ a) ** 2).sum().item(), rel=1e-5)
