"""CDAN and CDAN-E: the joint map, plain and randomized, and the entropy weights."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, domain_entropy, domains, make, mlp, softmax


def joint(module, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """f ⊗ g, or (R_f f ⊙ R_g g) / √D."""
    g = softmax(logits)
    if module.randomized:
        f_map, g_map = array(module.feature_map), array(module.class_map)
        return (features @ f_map) * (g @ g_map) / math.sqrt(f_map.shape[1])
    return np.stack([np.outer(f, p).ravel() for f, p in zip(features, g, strict=True)])


def certainty(logits: np.ndarray) -> np.ndarray:
    p = softmax(logits)
    return 1 + np.exp((p * np.log(p)).sum(1))[:, None]


def reference(module, inputs, weights=lambda s, t: (1.0, 1.0)) -> float:
    """The loss given the discriminator; `weights` maps both domains' certainty to their row weights."""
    features, logits = domains(inputs), domains(inputs, "logits")
    source, target = (mlp(module.discriminator, joint(module, f, z)) for f, z in zip(features, logits, strict=True))
    return domain_entropy(source, target, *weights(*map(certainty, logits)))


def per_domain(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return s / s.mean(), t / t.mean()


def over_both(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w / sum(w) · batch over both domains together, as TLlib does."""
    mean = np.concatenate([s, t]).mean()
    return s / mean, t / mean


def test_value_given_the_discriminator():
    """Of one class it is DANN."""
    for randomized, (n, m, classes) in itertools.product((False, True), ((7, 5, 3), (4, 4, 3), (7, 5, 1))):
        inputs = batch(n, m, classes=classes)
        module = make("cdan", classes=classes, randomized=randomized, random_dim=64)
        assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-5), (randomized, n)


@pytest.mark.parametrize("randomized", [False, True])
def test_entropy_weights(randomized):
    """Each domain counts the same; over both together, as in TLlib, the more certain one would count more."""
    module, inputs = make("cdan_e", randomized=randomized, random_dim=64), batch()
    inputs["target_logits"] = inputs["target_logits"].detach() * 4  # one domain more certain than the other
    value = call(module, inputs).item()
    assert value == pytest.approx(reference(module, inputs, per_domain), abs=1e-5)
    assert abs(value - reference(module, inputs, over_both)) > 1e-4
    named = make("cdan", entropy=True, randomized=randomized, random_dim=64)
    assert call(named, inputs).item() == value


def test_randomized_above_4096():
    for width, classes, randomized in ((1024, 4, False), (1024, 5, True), (384, 10, False), (768, 6, True)):
        module = make("cdan", width, classes, hidden=8)
        assert module.randomized is randomized
        assert set(dict(module.named_buffers())) == ({"feature_map", "class_map"} if randomized else set())
        assert set(dict(module.named_buffers())) <= set(module.state_dict())
        assert module.discriminator[0].in_features == (1024 if randomized else width * classes)


def test_random_map_keeps_inner_products():
    """E<h, h'> = <f, f'> <g, g'>: the projection stands for the outer product."""
    module, inputs = make("cdan", randomized=True, random_dim=200_000, hidden=1), batch(4, 4)
    f, g = inputs["source_features"].detach(), inputs["source_logits"].detach().softmax(-1)
    h = module._joint(f, g)
    torch.testing.assert_close(h @ h.T, (f @ f.T) * (g @ g.T), atol=0.15, rtol=0.05)
