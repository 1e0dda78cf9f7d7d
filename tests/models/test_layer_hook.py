"""Features of inner layers: the right layer, the mean over real tokens, and a run that uses them."""

from __future__ import annotations

import families
import numpy as np
import pytest
import runs
import tiny
import torch
from families import FAMILIES

from hftransfer import Objective
from hftransfer.models.layer_hook import LayerHook, layer_widths
from hftransfer.objectives.registry import REGISTRY

BATCH = families.batch()


def hidden(model, index: int, inputs=BATCH):
    """The model's own report of a layer's output; index 0 is the first layer."""
    with torch.no_grad():
        return model(**inputs, output_hidden_states=True).hidden_states[index + 1]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("albert", "llama")])
def test_first_layer_averaged_over_real_tokens(family, left):
    model, inputs = families.build(family).eval(), families.batch(left)
    hook = LayerHook(model, "hidden:0")
    with torch.no_grad():
        model(**inputs)
    x = hidden(model, 0, inputs)
    expected = [row[mask == 1].mean(0) for row, mask in zip(x, inputs["attention_mask"], strict=True)]
    torch.testing.assert_close(hook.take(inputs, pool=True), torch.stack(expected))


def test_layers_are_counted_from_both_ends():
    model = families.build("bert").eval()
    first, last, mean = (LayerHook(model, where) for where in ("hidden:-2", "hidden:1", "mean"))
    model(**BATCH)
    torch.testing.assert_close(first.take(BATCH, pool=False), hidden(model, 0))
    torch.testing.assert_close(last.take(BATCH, pool=False), hidden(model, 1))
    assert mean.take(BATCH, pool=True).shape == (3, 32)
    with pytest.raises(RuntimeError, match="did not run"):
        mean.take(BATCH, pool=True)


def test_feature_maps_are_averaged_over_positions():
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Conv2d(3, 5, 1)]))
    hook = LayerHook(model, "mean")
    out = model[0][0](torch.randn(2, 3, 4, 4))
    torch.testing.assert_close(hook.take({}, pool=True), out.mean((2, 3)))


def cells(x, side=4):
    """(rows, height, width, channels) -> means over the cells of a grid, a loop by hand; channels first."""
    rows, height, width, channels = x.shape
    out = np.zeros((rows, channels, side, side))
    for i in range(side):
        for j in range(side):
            top, left = i * height // side, j * width // side
            bottom, right = -(-(i + 1) * height // side), -(-(j + 1) * width // side)
            out[:, :, i, j] = x[:, top:bottom, left:right].mean((1, 2))
    return out.reshape(rows, -1)


@pytest.mark.parametrize("sides", [(4, 4), (8, 8), (7, 5), (2, 3)])
def test_a_grid_of_a_feature_map(sides):
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Conv2d(3, 5, 1)]))
    hook = LayerHook(model, "hidden:0")
    out = model[0][0](torch.randn(2, 3, *sides)).detach()
    expected = cells(out.permute(0, 2, 3, 1).double().numpy())
    np.testing.assert_allclose(hook.take_grid({}).detach(), expected, atol=1e-6)


def test_a_grid_of_a_map_with_channels_last():
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(3, 5)]))
    hook = LayerHook(model, "hidden:0")
    out = model[0][0](torch.randn(2, 8, 8, 3)).detach()
    np.testing.assert_allclose(hook.take_grid({}).detach(), cells(out.double().numpy()), atol=1e-6)


@pytest.mark.parametrize("others", [0, 1, 5])
def test_a_grid_of_an_images_patches_leaves_other_tokens_out(others):
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(3, 5)]))
    hook = LayerHook(model, "hidden:0")
    out = model[0][0](torch.randn(2, others + 64, 3)).detach()
    expected = cells(out[:, others:].double().numpy().reshape(2, 8, 8, 5))
    np.testing.assert_allclose(hook.take_grid({"pixel_values": None}).detach(), expected, atol=1e-6)


def test_patches_that_form_no_square_and_tokens_of_a_text_are_averaged():
    model, inputs = families.build("bert").eval(), families.batch(True)
    hook = LayerHook(model, "hidden:0")
    with torch.no_grad():
        model(**inputs)
        whole = hook.take_grid(inputs)
        model(**inputs)
    torch.testing.assert_close(whole, hook.take(inputs, pool=True))
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Linear(3, 5)]))
    hook = LayerHook(model, "hidden:0")
    out = model[0][0](torch.randn(2, 6 + 64, 3))
    torch.testing.assert_close(hook.take_grid({"pixel_values": None}), out.mean(1))


def test_widths_change_neither_random_state_nor_modes():
    model = families.build("bert", hidden_size=48, num_attention_heads=2)
    model.bert.encoder.layer[0].eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    assert layer_widths(model, {"head", "mean", "hidden:0"}, BATCH) == {"mean": 48, "hidden:0": 48}
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert not any(layer._forward_hooks for layer in model.bert.encoder.layer)


@pytest.mark.parametrize("where", ["hidden:2", "hidden:-3"])
def test_a_layer_that_is_not_there(where):
    with pytest.raises(ValueError, match=rf"features='{where}': the stack 'bert.encoder.layer' has 2 layers only"):
        LayerHook(families.build("bert"), where)


# ---- in a run


class Witness(Objective):
    def __init__(self, feature_dim: int):
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, source_features, target_features):
        self.seen = torch.cat([source_features, target_features])
        return self.seen.square().mean()


@pytest.fixture
def witness(monkeypatch):
    monkeypatch.setitem(REGISTRY, "witness", Witness)


def still(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def test_two_objectives_in_two_layers(tmp_path, witness):
    spec = {
        "low": {"kind": "witness", "features": "hidden:0"},
        "high": {"kind": "witness"},
        "mmd": {"features": "mean"},
    }
    run = runs.trainer(tmp_path, model=still(tiny.bert()), objectives=spec)
    adapter, inputs = run.model, next(iter(run.get_train_dataloader()))
    adapter(**inputs)
    plain = {k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")}
    x, mask = hidden(adapter.model, 0, plain), inputs["attention_mask"].unsqueeze(-1)
    torch.testing.assert_close(adapter.objectives["low"].seen, (x * mask).sum(1) / mask.sum(1))
    assert not torch.allclose(adapter.objectives["low"].seen, adapter.objectives["high"].seen)
    run.train()


def test_only_layers_below_are_moved(tmp_path, witness):
    """An objective in layer 0 sends no gradient to layer 1."""
    run = runs.trainer(
        tmp_path,
        objectives={"low": {"kind": "witness", "features": "hidden:0", "weight": 1.0, "schedule": "constant"}},
    )
    out = run.model(**next(iter(run.get_train_dataloader())))
    value = run.model.objectives["low"].seen.square().mean()
    names, parameters = zip(*run.model.model.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(value, parameters, allow_unused=True), strict=True))
    assert out.loss.requires_grad
    assert all(gradients[n] is None for n in names if ".layer.1." in n or "classifier" in n)
    assert all(gradients[n].abs().max() > 0 for n in names if ".layer.0." in n and "key.bias" not in n)


def test_tagging_reads_words_of_the_layer(tmp_path, witness):
    run = runs.trainer(
        tmp_path,
        model=still(tiny.bert(tiny.TAGS, tagging=True)),
        objectives={"low": {"kind": "witness", "features": "hidden:0"}},
        train_dataset=tiny.tagged(),
        target_dataset=tiny.tagged(seed=1, labelled=False),
    )
    inputs = next(iter(run.get_train_dataloader()))
    run.model(**inputs)
    x = hidden(run.model.model, 0, {k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")})
    words = x[inputs["word_mask"] == 1]
    seen = run.model.objectives["low"].seen
    assert len(seen) == 64
    assert all((row - words).abs().sum(1).min() < 1e-5 for row in seen)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("last", r"Objective 'mmd': features='last' must be 'head' .* or 'hidden:<layer>'"),
        (3, r"Objective 'mmd': features=3 must be 'head'"),
        ("hidden:7", r"features='hidden:7': the stack 'bert.encoder.layer' has 2 layers only"),
    ],
)
def test_refusals(tmp_path, features, message):
    with pytest.raises(ValueError, match=message):
        runs.trainer(tmp_path, objectives={"mmd": {"features": features}})
