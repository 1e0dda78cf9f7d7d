"""CDAN and CDAN-E: the joint map, plain and randomized, and the entropy weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import array, batch, call, domain_entropy, make, mlp, softmax

from hftransfer.objectives.adversarial import domain_loss


def joint(module, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """f ⊗ g, or (R_f f ⊙ R_g g) / √D."""
    g = softmax(logits)
    if module.randomized:
        f_map, g_map = array(module.feature_map), array(module.class_map)
        return (features @ f_map) * (g @ g_map) / math.sqrt(f_map.shape[1])
    return np.stack([np.outer(f, p).ravel() for f, p in zip(features, g, strict=True)])


def certainty(logits: np.ndarray) -> np.ndarray:
    p = softmax(logits)
    return 1 + np.exp((p * np.log(p)).sum(1))


def reference(module, inputs, weights=None) -> float:
    """The loss given the discriminator; `weights` maps both domains' certainty to their row weights."""
    f_s, f_t, z_s, z_t = (
        array(inputs[k]) for k in ("source_features", "target_features", "source_logits", "target_logits")
    )
    source, target = (mlp(module.discriminator, joint(module, f, z)) for f, z in ((f_s, z_s), (f_t, z_t)))
    s, t = weights(certainty(z_s), certainty(z_t)) if weights else (1.0, 1.0)
    return domain_entropy(source, target, s[:, None] if weights else s, t[:, None] if weights else t)


def per_domain(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return s / s.mean(), t / t.mean()


def over_both(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w / sum(w) · batch over both domains together, as TLlib does."""
    total = (s.sum() + t.sum()) / (len(s) + len(t))
    return s / total, t / total


@pytest.mark.parametrize("randomized", [False, True])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 4)])
def test_value_given_the_discriminator(randomized, n, m):
    module, inputs = make("cdan", randomized=randomized, random_dim=64), batch(n, m)
    assert call(module, inputs).item() == pytest.approx(reference(module, inputs), abs=1e-5)


@pytest.mark.parametrize("randomized", [False, True])
def test_entropy_weights(randomized):
    """Each domain counts the same; over both together, as in TLlib, the more certain one would count more."""
    module, inputs = make("cdan_e", randomized=randomized, random_dim=64), batch()
    inputs["target_logits"] = inputs["target_logits"].detach() * 4  # one domain more certain than the other
    value = call(module, inputs).item()
    assert value == pytest.approx(reference(module, inputs, per_domain), abs=1e-5)
    assert abs(value - reference(module, inputs, over_both)) > 1e-4


def test_cdan_e_is_cdan_with_entropy():
    inputs = batch()
    assert torch.equal(call(make("cdan_e"), inputs), call(make("cdan", entropy=True), inputs))
    assert not torch.equal(call(make("cdan_e"), inputs), call(make("cdan"), inputs))


def test_equal_certainty_weighs_nothing():
    inputs = batch()
    inputs |= {"source_logits": torch.zeros(7, 3), "target_logits": torch.zeros(5, 3)}
    torch.testing.assert_close(call(make("cdan_e"), inputs), call(make("cdan"), inputs))


@pytest.mark.parametrize(
    ("width", "classes", "randomized"), [(1024, 4, False), (1024, 5, True), (384, 10, False), (768, 6, True)]
)
def test_randomized_above_4096(width, classes, randomized):
    module = make("cdan", width, classes, hidden=8)
    assert module.randomized is randomized
    assert {"feature_map", "class_map"} <= set(module.state_dict()) if randomized else not list(module.buffers())
    assert module.discriminator[0].in_features == (1024 if randomized else width * classes)


def test_random_maps_are_fixed_and_travel_with_the_state():
    """A resumed run plays the same game: maps are buffers, drawn once, and not parameters."""
    module, inputs = make("cdan", randomized=True, random_dim=32), batch()
    assert torch.equal(call(module, inputs), call(module, inputs))
    torch.manual_seed(1)
    other = type(module)(6, 3, randomized=True, random_dim=32)
    assert not torch.equal(other.feature_map, module.feature_map)
    other.load_state_dict(module.state_dict())
    assert torch.equal(call(module, inputs), call(other, inputs))
    assert not {"feature_map", "class_map"} & {name for name, _ in module.named_parameters()}


def test_random_map_keeps_inner_products():
    """E<h, h'> = <f, f'> <g, g'>: the projection stands for the outer product."""
    module, inputs = make("cdan", randomized=True, random_dim=200_000, hidden=1), batch(4, 4)
    f, z = inputs["source_features"].detach(), inputs["source_logits"].detach()
    g = z.softmax(-1)
    h = module._joint(f, g)
    torch.testing.assert_close(h @ h.T, (f @ f.T) * (g @ g.T), atol=0.15, rtol=0.05)


def test_equal_domains_with_a_blind_discriminator_score_log_2():
    module, inputs = make("cdan_e"), batch(6, 6)
    torch.nn.init.zeros_(module.discriminator[-2].weight)
    torch.nn.init.zeros_(module.discriminator[-2].bias)
    same = {"target_features": inputs["source_features"], "target_logits": inputs["source_logits"]}
    assert call(module, {**inputs, **same}).item() == pytest.approx(math.log(2), abs=1e-6)


def test_one_class_is_dann():
    """With K = 1 the prediction is the constant 1 and the outer product the features themselves."""
    module, inputs = make("cdan", classes=1), batch(classes=1)
    x, y = inputs["source_features"], inputs["target_features"]
    torch.testing.assert_close(call(module, inputs), domain_loss(module.discriminator(x), module.discriminator(y)))
