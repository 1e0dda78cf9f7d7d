"""Rates: the slanted triangle against the paper's formula, rates by depth, and which groups the optimizer gets."""

from __future__ import annotations

import families
import numpy as np
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from torch import nn

from hftransfer import Objective
from hftransfer.models.feature_hook import find_head
from hftransfer.models.layerwise_rates import LayerwiseRates, slanted_triangular
from hftransfer.models.parameter_blocks import split_into_blocks
from hftransfer.objectives.registry import REGISTRY


def papers_triangle(total: int, cut_frac: float, ratio: float) -> np.ndarray:
    """Equation 3 of Howard & Ruder (2018), word for word, in float64."""
    t = np.arange(total, dtype=np.float64)
    cut = np.floor(total * cut_frac)
    p = np.where(t < cut, t / cut, 1 - (t - cut) / (cut * (1 / cut_frac - 1)))
    return (1 + p * (ratio - 1)) / ratio


@pytest.mark.parametrize(("total", "cut_frac", "ratio"), [(100, 0.1, 32), (40, 0.25, 10), (1000, 0.5, 2)])
def test_the_slanted_triangle_is_the_papers(total, cut_frac, ratio):
    found = [slanted_triangular(t, total, cut_frac, ratio) for t in range(total)]
    np.testing.assert_allclose(found, papers_triangle(total, cut_frac, ratio), rtol=0, atol=1e-12)
    assert max(found) == 1.0
    assert found[0] == pytest.approx(1 / ratio)


@pytest.mark.parametrize("total", [1, 2, 3, 9, 19, 25])
def test_short_runs_rise_fall_and_stay_positive(total):
    """Where the paper's rounding would give rates below 0."""
    found = np.array([slanted_triangular(t, total) for t in range(total + 1)])
    assert (found >= 1 / 32 - 1e-12).all()
    assert found.max() == 1.0 or total == 1
    peak = found.argmax()
    assert (np.diff(found[: peak + 1]) > 0).all()
    assert (np.diff(found[peak:]) < 0).all() or total == 1


@pytest.mark.parametrize("family", families.FAMILIES)
def test_rates_fall_with_the_distance_from_the_head(family):
    model = families.build(family)
    rates, blocks = (
        LayerwiseRates(0.5, head=8.0, backbone=2.0),
        split_into_blocks(model, find_head(model, families.batch())),
    )
    depth = 1 if family == "albert" else 2
    for block in blocks:
        assert rates.of(block) == (8.0 if block.head else 2.0 * 0.5**block.depth)
    assert {block.depth for block in blocks if "embed" in block.name} == {depth + 1}


def groups(run) -> dict[str, tuple[float, float, set[str]]]:
    """Rate, weight decay and parameters of each named group."""
    run.create_optimizer()
    names = {id(p): name for name, p in run.model.named_parameters()}
    return {
        group["name"]: (group["lr"], group["weight_decay"], {names[id(p)] for p in group["params"]})
        for group in run.optimizer.param_groups
    }


def test_groups_of_a_plain_run(tmp_path):
    run = runs.trainer(tmp_path, objectives={"dann": 0.1}, weight_decay=0.1)
    found = groups(run)
    assert list(found) == [
        f"{part}{tail}" for part in ("head", "backbone", "objectives") for tail in ("", ", no weight decay")
    ]
    everything = [name for _, _, names in found.values() for name in names]
    assert sorted(everything) == sorted(name for name, _ in run.model.named_parameters())
    assert found["head"][2] == {"model.classifier.weight"}
    for name, (rate, decay, names) in found.items():
        assert rate == pytest.approx(0.1 if name.startswith("objectives") else 0.01)
        bare = name.endswith("no weight decay")
        assert decay == (0.0 if bare else 0.1)
        assert all(("bias" in n or "LayerNorm" in n) is bare for n in names)


def test_groups_by_depth(tmp_path):
    found = groups(runs.trainer(tmp_path, layer_decay=0.5, head_lr_multiplier=4.0, backbone_lr_multiplier=2.0))
    rates = {name: rate for name, (rate, _, _) in found.items() if not name.endswith("decay")}
    assert rates == pytest.approx(
        {
            "head": 0.04,
            "backbone: bert.pooler": 0.02,
            "backbone: bert.encoder.layer.1": 0.01,
            "backbone: bert.encoder.layer.0": 0.005,
            "backbone: bert.embeddings": 0.0025,
        }
    )
    assert all(".layer.0." in n for n in found["backbone: bert.encoder.layer.0"][2])


class Normed(Objective):
    """An objective with a convolution and norms whose names say nothing."""

    def __init__(self, feature_dim: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2), nn.Flatten(), nn.Linear(2 * feature_dim, 4), nn.GroupNorm(2, 4)
        )

    def forward(self, source_features):
        return self.net(source_features.unsqueeze(1)).square().mean()


def test_no_norm_decays_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "normed", Normed)
    found = groups(runs.trainer(tmp_path, objectives={"normed": 1.0}))
    assert found["objectives"][2] == {f"objectives.by_name.normed.net.{i}.weight" for i in (0, 3)}
    assert len(found["objectives, no weight decay"][2]) == 6


def test_rates_reach_an_adapter(tmp_path):
    """LoRA's matrices get the rate of the layer that they adapt."""
    run = runs.trainer(tmp_path, peft_config=LoraConfig(r=2), layer_decay=0.5, head_lr_multiplier=3.0)
    found = groups(run)
    assert found["head"][0] == pytest.approx(0.03)
    assert found["backbone: bert.encoder.layer.0"][0] == pytest.approx(0.0025)
    assert all("lora_" in name for name in found["backbone: bert.encoder.layer.0"][2])
    moving = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert {n for _, _, names in found.values() for n in names} == moving


def test_a_step_is_as_long_as_its_rate(tmp_path):
    """Plain SGD: each parameter moves by its rate times its gradient."""
    run = runs.trainer(
        tmp_path,
        tiny.bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        objectives=None,
        optim="sgd",
        weight_decay=0.0,
        max_steps=1,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        layer_decay=0.5,
        head_lr_multiplier=4.0,
    )
    gradients = {}
    for name, p in run.model.model.named_parameters():
        p.register_hook(lambda g, name=name: gradients.__setitem__(name, g.clone()))
    before = runs.copied(run.model.model)
    run.train()
    for block in run.blocks:
        rate = 0.01 * (4.0 if block.head else 0.5**block.depth)
        for name in block.parameters:
            moved = before[name] - run.model.model.get_parameter(name)
            torch.testing.assert_close(moved, rate * gradients[name], rtol=1e-3, atol=1e-7)


def test_the_slanted_triangle_drives_a_run(tmp_path):
    run = runs.trainer(
        tmp_path,
        lr_scheduler_type="slanted_triangular",
        lr_scheduler_kwargs={"cut_frac": 0.4, "ratio": 8},
        max_steps=5,
    )
    run.train()
    wanted = 0.01 * papers_triangle(5, 0.4, 8)
    np.testing.assert_allclose(runs.logged(run, "learning_rate"), wanted, rtol=1e-9)
    assert run.args.to_dict()["lr_scheduler_type"] == "slanted_triangular"


def test_the_log_shows_both_rates_where_they_differ(tmp_path):
    run = runs.trainer(tmp_path, head_lr_multiplier=10.0, max_steps=3)
    run.train()
    head, backbone = (runs.logged(run, f"{part}_learning_rate") for part in ("head", "backbone"))
    assert head == pytest.approx([0.1, 0.2 / 3, 0.1 / 3])
    assert backbone == pytest.approx([rate / 10 for rate in head])
    assert runs.logged(run, "learning_rate") == head
    plain = runs.trainer(tmp_path / "plain", max_steps=1)
    plain.train()
    assert not runs.logged(plain, "head_learning_rate")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer_decay": 0.0}, r"layer_decay=0.0 must be above 0 and at most 1"),
        ({"layer_decay": 1.1}, r"layer_decay=1.1 must be above 0 and at most 1"),
        ({"head_lr_multiplier": 0.0}, r"head_lr_multiplier=0.0 must be positive\.$"),
        ({"backbone_lr_multiplier": 0.0}, r"backbone_lr_multiplier=0.0 must be positive\. .* trainable='head'"),
        ({"objective_lr_multiplier": float("inf")}, r"objective_lr_multiplier=inf must be positive"),
        ({"lr_scheduler_type": "slanted"}, r"lr_scheduler_type='slanted' is not one of .* Did you mean 'slanted_tri"),
        (
            {"lr_scheduler_type": "slanted_triangular", "lr_scheduler_kwargs": {"cut": 0.1}},
            r"slanted_triangular has no 'cut'; it has cut_frac and ratio\. Did you mean 'cut_frac'\?",
        ),
        (
            {"lr_scheduler_type": "slanted_triangular", "lr_scheduler_kwargs": {"cut_frac": 1.0}},
            r"cut_frac=1.0 must be a number between 0 and 1",
        ),
        (
            {"lr_scheduler_type": "slanted_triangular", "lr_scheduler_kwargs": '{"ratio": 0.5}'},
            r"ratio=0.5 must be a number at least 1",
        ),
        ({"layer_decay": 0.9, "optim": "galore_adamw_layerwise"}, r"optim='galore_adamw_layerwise' updates each"),
        ({"unfreeze": {"by": "step"}, "optim": "lomo"}, r"optim='lomo' updates each parameter in the backward pass"),
    ],
)
def test_rates_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        runs.config(tmp_path, **settings)
