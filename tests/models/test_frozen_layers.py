"""Frozen layers: found by the graph in every family, and left out of a forward without a difference."""

from __future__ import annotations

import families
import pytest
import tiny
import torch

from hftransfer.models.feature_hook import find_head
from hftransfer.models.freezing import set_trainable
from hftransfer.models.frozen_layers import NoFrozenLayers, find_frozen_layers
from hftransfer.models.module_mode import module_mode

ONE_LAYER = ("albert",)  # all layers share their weights
HAND_ON_MORE = ("swin",)


def frozen(model, batch, freeze):
    set_trainable(model, find_head(model, batch), freeze=freeze)
    return find_frozen_layers(model, batch)


def calls(model, layers) -> list[str]:
    """Names of the frozen layers' inner modules that run from now on."""
    seen: list[str] = []
    prefixes = tuple(f"{layers.stack}.{i}." for i in range(layers.count))
    for name, module in model.named_modules():
        if name.startswith(prefixes):
            module.register_forward_pre_hook(lambda module, args, name=name: seen.append(name))
    return seen


def same_from_states(model, batch, layers) -> None:
    """Logits from stored states are the model's own, and no frozen layer ran for them."""
    with module_mode(model), torch.no_grad():
        want, states = model(**batch).logits, layers.states(model, batch)
        if "attention_mask" in batch:
            states = states * batch["attention_mask"].unsqueeze(-1)
        ran = calls(model, layers)
        with layers.replaced(model, states):
            got = model(**batch).logits
        assert not ran
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
        with layers.replaced(model, states + torch.randn_like(states)):
            assert not torch.allclose(model(**batch).logits, want, atol=1e-6)
        torch.testing.assert_close(model(**batch).logits, want, rtol=0, atol=0)
        assert ran


@pytest.mark.parametrize("family", [name for name in families.FAMILIES if name not in ONE_LAYER])
def test_text_families_go_on_from_stored_states(family):
    model, batch = families.build(family), families.batch()
    layers = frozen(model, batch, "first_1")
    assert (layers.count, layers.total) == (1, 2)
    assert f"{layers.stack}.0" in layers.modules
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    below = {name for name, _ in model.named_parameters() if name.startswith(f"{layers.stack}.0.")}
    assert below <= set(layers.parameters)
    assert not trains & set(layers.parameters)
    same_from_states(model, batch, layers)


@pytest.mark.parametrize("family", [name for name in families.VISION if name not in HAND_ON_MORE])
def test_image_families_go_on_from_stored_states(family):
    model, batch = families.build_vision(family), families.images()
    layers = frozen(model, batch, "first_2")
    assert layers.count == 2
    same_from_states(model, batch, layers)


@pytest.mark.parametrize("family", HAND_ON_MORE)
def test_what_hands_on_more_than_hidden_states_is_refused(family):
    with pytest.raises(NoFrozenLayers, match="hand on more than hidden states"):
        frozen(families.build_vision(family), families.images(), "first_1")


def test_layers_are_frozen_as_far_as_nothing_that_trains_has_a_part_in_them():
    batch = families.batch()
    cases = {"first_1": 1, "first_3": 3, ("embeddings", "block:layer.0", "block:layer.2"): 1}
    for freeze, count in cases.items():
        freeze = list(freeze) if isinstance(freeze, tuple) else freeze
        assert frozen(tiny.bert(num_hidden_layers=4), batch, freeze).count == count
    model = tiny.bert(num_hidden_layers=4)
    set_trainable(model, find_head(model, batch), "head")
    assert find_frozen_layers(model, batch).count == 4
    for freeze, name in ((["block:layer.0"], "embeddings"), ("embeddings", "layer.0")):
        with pytest.raises(NoFrozenLayers, match=rf"{name}.* trains, and the first layer depends on it"):
            frozen(tiny.bert(num_hidden_layers=4), batch, freeze)


def test_identity_is_of_what_lies_below_alone():
    model, batch = tiny.bert(num_hidden_layers=3), families.batch()
    layers = frozen(model, batch, "first_2")
    before = layers.identity(model)
    with torch.no_grad():
        model.classifier.weight.add_(1)
        model.bert.encoder.layer[2].output.dense.weight.add_(1)
    assert layers.identity(model) == before
    for tensor in (
        model.bert.embeddings.word_embeddings.weight,
        model.bert.encoder.layer[0].output.LayerNorm.bias,
        model.bert.encoder.layer[1].attention.self.query.weight,
    ):
        with torch.no_grad():
            tensor.view(-1)[0].add_(1e-3)
        assert layers.identity(model) != before
        before = layers.identity(model)
    model.config.layer_norm_eps = 1e-3
    assert layers.identity(model) != before


def test_finding_leaves_model_and_random_state_alone():
    model, batch = tiny.bert(num_hidden_layers=3), families.batch()
    head = find_head(model, batch)
    set_trainable(model, head, freeze="first_2")
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    find_frozen_layers(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert {name: p.requires_grad for name, p in model.named_parameters()} == grads
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_forward_that_fails_leaves_the_layers_as_they_were():
    model, batch = tiny.bert(), families.batch()
    layers = frozen(model, batch, "first_1")
    with pytest.raises(RuntimeError), layers.replaced(model, torch.zeros(1, 2, 3)):
        model(**batch)
    assert not any("forward" in vars(layer) for layer in model.bert.encoder.layer)
