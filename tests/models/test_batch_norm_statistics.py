"""Statistics of batch norm: estimated on the target, left alone, held still; and momentum meant as decay."""

from __future__ import annotations

import logging

import families
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification

from hftransfer import adapt_batch_norm
from hftransfer.models.batch_norm_statistics import (
    average_statistics,
    batch_norms,
    freeze_batch_norms,
    running_statistics_kept,
)
from hftransfer.models.tensorflow_conventions import convert_tensorflow_conventions


class Tower(nn.Module):
    """Two batch norms, the second behind what the first made; and one that never runs."""

    def __init__(self, kind=nn.BatchNorm2d):
        super().__init__()
        self.first, self.mix, self.second, self.idle = kind(3), nn.Conv2d(3, 5, 1), kind(5), kind(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, pixel_values):
        return self.second(self.mix(self.drop(self.first(pixel_values))))


def pixels(rows: int = 10, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 100 + 2 * torch.randn(rows, 3, 4, 4, generator=draw) + torch.arange(rows).view(-1, 1, 1, 1)


def batches(x: torch.Tensor, *cuts: int) -> list[dict[str, torch.Tensor]]:
    return [{"pixel_values": part, "labels": torch.zeros(len(part))} for part in x.tensor_split(cuts)]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of each channel."""
    flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    return flat.mean(1), flat.var(1, ddof=1)


# ---- AdaBN


@pytest.mark.parametrize("cuts", [(), (4,), (2, 3, 9)])
def test_statistics_are_those_of_all_rows(cuts):
    """The first layer's exactly, however rows are batched; the second's of what batches of their own made of it."""
    torch.manual_seed(0)
    model, x = Tower().train(), pixels()
    assert adapt_batch_norm(model, batches(x, *cuts)) == 10
    x64 = x.numpy().astype(np.float64)
    mean, variance = moments(x64)
    np.testing.assert_allclose(model.first.running_mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(model.first.running_var.numpy(), variance, rtol=1e-4)

    weight, bias = (p.detach().numpy().astype(np.float64) for p in (model.mix.weight, model.mix.bias))
    made = []
    for part in np.split(x64, cuts):
        flat = np.moveaxis(part, 1, 0).reshape(3, -1)
        seen = (part - flat.mean(1)[:, None, None]) / np.sqrt(flat.var(1) + 1e-5)[:, None, None]
        made.append(np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], seen) + bias[:, None, None])
    mean, variance = moments(np.concatenate(made))
    np.testing.assert_allclose(model.second.running_mean.numpy(), mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.second.running_var.numpy(), variance, rtol=1e-3)


def test_nothing_else_changes():
    """Parameters, modes, the counter of batches, a layer that does not run, random state, and no hook is left."""
    model = Tower().train()
    model.drop.eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    adapt_batch_norm(model, batches(pixels()))
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {f"{part}.running_{which}" for part in ("first", "second") for which in ("mean", "var")}
    assert modes == [m.training for m in model.modules()]
    assert all(m.track_running_stats for m in batch_norms(model).values())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_target_that_is_brighter_is_normalised_as_the_source_was():
    """What AdaBN is for: a shift of every channel disappears in evaluation."""
    torch.manual_seed(0)
    model, source = Tower().train(), pixels()
    model.drop.p = 0.0
    for _ in range(100):
        model(source)
    model.eval()
    expected = model(source)
    target = 3 * source + 7
    assert (model(target) - expected).abs().mean() > 0.5
    adapt_batch_norm(model, batches(target))
    assert (model(target) - expected).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2)), 4, "Sequential has no batch norm with running statistics, so AdaBN has no"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), 4, "has no batch norm with running"),
        (Tower(), 0, "AdaBN was given no target rows"),
    ],
)
def test_refusals(model, rows, message):
    with pytest.raises(ValueError, match=message):
        adapt_batch_norm(model, batches(pixels(rows)) if rows else [])


def test_a_failing_batch_leaves_modes_and_hooks_as_they_were():
    model = Tower().train()
    with pytest.raises(TypeError):
        adapt_batch_norm(model, [{"other": torch.zeros(2, 3, 4, 4)}])
    assert all(m.training and m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert not any(m._forward_pre_hooks for m in model.modules())


# ---- held still, left alone


def running(model) -> list[torch.Tensor]:
    return [b.clone() for n, b in model.named_buffers() if "running" in n]


def same(a, b) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


def test_frozen_batch_norm_does_not_move():
    model = Tower()
    model.first.requires_grad_(False)
    for everywhere, expected in ((False, [True, True, False, False, True, True]), (True, [True] * 6)):
        model.train()
        freeze_batch_norms(model, everywhere)
        before = running(model)
        model(pixels())
        assert same(before, running(model)) == expected
    model.train()
    before = running(model)
    model(pixels())
    assert not any(same(before, running(model))[:4])  # `train()` alone undoes it


def test_unrecorded_normalises_by_the_batch_and_keeps_nothing():
    model = Tower().train()
    model.drop.p = 0.0
    model.first.eval()
    before, count = running(model), model.second.num_batches_tracked.clone()
    with running_statistics_kept(model):
        inside = model(pixels())
    assert all(same(before, running(model)))
    assert torch.equal(count, model.second.num_batches_tracked)
    assert torch.equal(inside, model(pixels()))
    assert not all(same(before, running(model)))


def test_one_process_has_nothing_to_average():
    model = Tower().train()
    model(pixels())
    before = running(model)
    average_statistics(model)
    assert all(same(before, running(model)))


# ---- TensorFlow's conventions


def step(model) -> torch.Tensor:
    """How much of what a model knew is left after one step on other images: 1 all, 0 nothing."""
    module = next(m for n, m in batch_norms(model).items() if n.endswith("conv_stem.normalization"))
    module.running_mean.fill_(100.0)
    model.train()(**families.images())
    return module.running_mean.mean() / 100


@pytest.mark.parametrize(("family", "decay"), [("mobilenet_v1", 0.9997), ("efficientnet", 0.99)])
def test_one_step_does_not_replace_the_statistics(family, decay, caplog):
    """The stock model falls into it; ours keeps what it knew, and says so in one line."""
    stock, ours = families.build_vision(family), families.build_vision(family)
    assert max(m.momentum for m in batch_norms(stock).values()) == decay
    with caplog.at_level(logging.WARNING):
        mended = convert_tensorflow_conventions(ours)
    assert f"momentum {decay:g} -> 0.1" in mended[0]
    assert len(caplog.records) == 1
    assert all(m.momentum <= 0.5 for m in batch_norms(ours).values())
    if family == "mobilenet_v1":
        assert abs(step(stock)) < 0.01
        assert step(ours) == pytest.approx(0.9, abs=0.02)
    caplog.clear()
    assert convert_tensorflow_conventions(ours) == []  # a second time there is nothing to mend
    assert not caplog.records


def test_a_momentum_of_ones_own_is_set_everywhere(caplog):
    model = families.build_vision("mobilenet_v1")
    assert convert_tensorflow_conventions(model, momentum=0.9) == []
    assert {m.momentum for m in batch_norms(model).values()} == {0.9}
    assert not caplog.records


@pytest.mark.parametrize(("family", "kept"), [("mobilenet_v1", 0.999), ("mobilenet_v2", 0.8)])
def test_the_dropout_before_the_head_drops_what_it_should(family, kept):
    """The default of the config is the share that is kept."""
    model = families.build_vision(family, classifier_dropout_prob=kept)
    assert f"dropout of {kept:g} -> {1 - kept:.4g}" in convert_tensorflow_conventions(model)[-1]
    assert model.dropout.p == pytest.approx(1 - kept)


@pytest.mark.parametrize("family", ["resnet", "regnet", "vit"])
def test_a_model_in_order_is_left_as_it_is(family):
    model = families.build_vision(family)
    momenta = [m.momentum for m in batch_norms(model).values()]
    assert convert_tensorflow_conventions(model) == []
    assert momenta == [m.momentum for m in batch_norms(model).values()]


def test_a_cumulative_average_is_left_as_it_is():
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Dropout(0.5), nn.Dropout(1.0))
    assert convert_tensorflow_conventions(model) == []
    assert model[0].momentum is None


def test_a_pretrained_mobilenet_keeps_what_it_knew(request):
    """On the real checkpoint: one step in training mode ruins the stock model's predictions, not ours."""
    folder = request.config.rootpath.parent / "shared" / "models" / "mobilenet_v1_0.25_128"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    x = torch.randn(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    moved, same = {}, {}
    for mended in (False, True):
        model = AutoModelForImageClassification.from_pretrained(folder).eval()
        if mended:
            convert_tensorflow_conventions(model)
        with torch.no_grad():
            before = model(pixel_values=x).logits
            model.train()(pixel_values=x[:2])
            after = model.eval()(pixel_values=x).logits
        moved[mended] = (after - before).abs().max() / before.abs().max()
        same[mended] = int((after.argmax(-1) == before.argmax(-1)).sum())
    assert moved[False] > 0.9
    assert moved[True] < 0.3
    assert same == {False: 0, True: len(x)}
