"""Adapters by domain: switched, stored, added up in float64."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import peft
import pytest
import runs
import tiny
import torch
from adapter_cases import QV, base, logits, moved
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from hftransfer.models.adapter_arithmetic import combine_adapters
from hftransfer.models.adapters import attach_adapter, merged_copy
from hftransfer.models.domain_adapters import (
    add_adapter,
    load_adapters,
    save_adapters,
    set_adapter,
)
from hftransfer.models.feature_hook import find_head


def domains(folder, configs=None, heads=True) -> dict[str, str]:
    """Trained adapters of three domains over one saved base."""
    if not (folder / "base").exists():
        base().save_pretrained(folder / "base")
    out = {}
    for i, name in enumerate(("medical", "law", "press")):
        model = AutoModelForSequenceClassification.from_pretrained(folder / "base")
        config = (configs or {}).get(
            name, LoraConfig(r=2 + i, target_modules=QV, modules_to_save=["classifier"] if heads else None)
        )
        moved(get_peft_model(model, config), i + 1).save_pretrained(folder / name)
        out[name] = str(folder / name)
    return out


@pytest.fixture
def three(tmp_path):
    paths = domains(tmp_path)
    return AutoModelForSequenceClassification.from_pretrained(tmp_path / "base"), paths


# ---- one a domain


def test_a_switch_gives_each_domain_its_own_adapter_and_head(three):
    plain, paths = three
    alone = {}
    for name, path in paths.items():
        alone[name] = logits(PeftModel.from_pretrained(copy.deepcopy(plain), path))
    without = logits(copy.deepcopy(plain))
    model = load_adapters(plain, paths)
    assert torch.equal(logits(model), alone["medical"])
    for name in ("press", "law", "medical"):
        assert torch.equal(logits(set_adapter(model, name)), alone[name])
        assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(logits(set_adapter(model)), without)
    assert torch.equal(logits(set_adapter(model, "law")), alone["law"])


def test_all_are_stored_together_and_come_back(three, tmp_path):
    plain, paths = three
    model = load_adapters(plain, paths)
    before = {name: logits(set_adapter(model, name)) for name in paths}
    stored = save_adapters(model, tmp_path / "all")
    assert {p.name for p in (tmp_path / "all").iterdir()} == set(paths)
    assert not list((tmp_path / "all").rglob("README.md"))
    assert stored.adapters == {n: (tmp_path / "all" / n / "adapter_model.safetensors").stat().st_size for n in paths}
    head = 4 * sum(p.numel() for p in plain.classifier.original_module.parameters())
    assert stored.heads == dict.fromkeys(paths, head)
    again = load_adapters(str(tmp_path / "base"), tmp_path / "all", labels=tiny.LABELS)
    for name in paths:
        assert torch.equal(logits(set_adapter(again, name)), before[name])
    with pytest.raises(FileExistsError):
        save_adapters(model, tmp_path / "all")


def test_three_domains_take_less_than_a_twentieth_of_a_minilm(tmp_path):
    """Rank 8 on every linear layer, heads included, beside six layers of width 384."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=3,
    )
    model = BertForSequenceClassification(config).eval()
    size = 4 * sum(p.numel() for p in model.parameters())
    head = find_head(model, {"input_ids": torch.tensor([[1, 2, 3]])})
    wrapped = attach_adapter(model, LoraConfig(r=8), head)
    for name in ("medical", "law"):
        wrapped.add_adapter(name, copy.deepcopy(wrapped.peft_config["default"]))
    stored = save_adapters(wrapped, tmp_path / "all")
    assert stored.backbone == size
    assert len(stored.adapters) == 3
    assert sum(stored.adapters.values()) == sum(
        p.stat().st_size for p in (tmp_path / "all").rglob("adapter_model.safetensors")
    )
    assert 0.03 < stored.share < 0.05
    assert "% of the backbone's" in str(stored)


# ---- sums


def weights_of(paths, plain, combination, head=None) -> dict[str, np.ndarray]:
    """Every weight of the sum, in float64, from the files alone."""
    out = {n: p.detach().double().numpy().copy() for n, p in plain.named_parameters()}
    heads = {"classifier.weight": 0.0, "classifier.bias": 0.0}
    for name, weight in combination.items():
        config = json.loads(Path(paths[name], "adapter_config.json").read_text())
        tensors = {k: v.astype(np.float64) for k, v in load_file(f"{paths[name]}/adapter_model.safetensors").items()}
        scale = config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"])
        for key in tensors:
            if key.endswith("lora_A.weight"):
                target = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight") + ".weight"
                up = tensors[key.replace("lora_A", "lora_B")]
                out[target] += weight * scale * up @ tensors[key]
            elif key.endswith("lora_embedding_A"):
                target = key.removeprefix("base_model.model.").removesuffix(".lora_embedding_A") + ".weight"
                out[target] += weight * scale * (tensors[key.replace("_A", "_B")] @ tensors[key]).T
        for key in heads:
            if f"base_model.model.{key}" in tensors and (head is None or head == name):
                heads[key] = heads[key] + (weight if head is None else 1.0) * tensors[f"base_model.model.{key}"]
    return out | {key: value for key, value in heads.items() if not isinstance(value, float)}


def double_logits(weights: dict[str, np.ndarray]) -> torch.Tensor:
    model = base().double()
    model.load_state_dict({n: torch.from_numpy(np.asarray(x)) for n, x in weights.items()}, strict=False)
    return logits(model)


@pytest.mark.parametrize(
    ("combination", "head"),
    [
        ({"medical": 0.5, "law": 0.3, "press": 0.2}, None),
        ({"medical": 1.0, "law": -1.0}, "medical"),
        ({"press": -0.7}, "law"),
        ({"law": 1.0}, None),
    ],
)
def test_a_weighted_sum_has_the_logits_of_the_summed_weights(three, combination, head):
    plain, paths = three
    used = {**({head: 0.0} if head else {}), **combination}
    expected = double_logits(weights_of(paths, plain, used, head))
    model = combine_adapters(load_adapters(plain, paths), combination, "sum", head)
    assert model.active_adapters == ["sum"]
    torch.testing.assert_close(logits(model).double(), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(logits(merged_copy(model)).double(), expected, rtol=0, atol=2e-6)


def test_ranks_scales_and_targets_may_differ(tmp_path):
    configs = {
        "medical": LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=["query"]),
        "law": LoraConfig(r=2, lora_alpha=5, target_modules=["value", "dense"], exclude_modules=["classifier"]),
        "press": LoraConfig(r=3, target_modules=["key", "word_embeddings"]),
    }
    paths = domains(tmp_path, configs)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    combination = {"medical": 0.8, "law": -1.5, "press": 0.4}
    expected = double_logits(weights_of(paths, plain, combination))
    model = combine_adapters(load_adapters(plain, paths), combination, "sum")
    torch.testing.assert_close(logits(model).double(), expected, rtol=0, atol=2e-6)
    stored = save_adapters(model, tmp_path / "all")
    assert set(stored.adapters) == {*paths, "sum"}


def test_the_stock_sum_is_wrong_under_rank_stabilised_lora(tmp_path):
    """Why `combine_adapters` does not call it."""
    config = LoraConfig(r=4, use_rslora=True, target_modules=QV)
    paths = domains(tmp_path, {name: copy.deepcopy(config) for name in ("medical", "law", "press")})
    model = load_adapters(AutoModelForSequenceClassification.from_pretrained(tmp_path / "base"), paths)
    combination = {"medical": 0.5, "law": 0.5}
    model.add_weighted_adapter(list(combination), [0.5, 0.5], "stock", combination_type="cat")
    stock = logits(set_adapter(model, "stock"))
    ours = logits(combine_adapters(model, combination, "ours"))
    assert not torch.allclose(stock, ours, atol=1e-4)


# ---- bad input


def two(kind, other=None):
    return add_adapter(get_peft_model(base(), kind, adapter_name="domain"), other or copy.deepcopy(kind))


BAD = {
    "unknown": (
        lambda m, p, t: set_adapter(m, "medicine"),
        "no adapter 'medicine'; there is medical, law, press. Did you",
    ),
    "taken": (lambda m, p, t: combine_adapters(m, {"law": 1.0}, "press"), "already"),
    "empty": (lambda m, p, t: combine_adapters(m, {}, "sum"), "weights is empty"),
    "name": (lambda m, p, t: combine_adapters(m, {"law": 1.0}, "a.b"), "'a.b' cannot be an adapter's name"),
    "part": (lambda m, p, t: combine_adapters(m, {"law": 1.0}, "or"), "no part of 'lora_'"),
    "heads": (lambda m, p, t: combine_adapters(m, {"law": -1.0}, "sum"), "weights sum to -1: no mean of heads"),
    "no folder": (lambda m, p, t: load_adapters(base(), t / "none"), "no folder"),
    "no adapter": (lambda m, p, t: load_adapters(base(), {"law": t / "base"}), "holds no adapter"),
    "nothing": (lambda m, p, t: load_adapters(base(), {}), "There is no adapter"),
    "default": (lambda m, p, t: load_adapters(base(), {"default": p["law"]}), "not 'default'"),
    "other base": (
        lambda m, p, t: load_adapters(AutoModelForSequenceClassification.from_pretrained(t / "other"), p),
        "an adapter fits only the weights",
    ),
    "labels": (lambda m, p, t: load_adapters(str(t / "base"), p), "`labels` are missing"),
    "wrapped": (lambda m, p, t: load_adapters(m, p), "wrapped already"),
    "plain": (lambda m, p, t: add_adapter(base(), LoraConfig()), "has no adapter to stack on"),
    "kinds": (lambda m, p, t: two(LoraConfig(target_modules=QV), peft.LoHaConfig()), "is LOHA and the domain's LORA"),
    "norms": (lambda m, p, t: two(peft.LNTuningConfig(target_modules=["LayerNorm"])), "Two LN_TUNING adapters cannot"),
    "rotations": (lambda m, p, t: two(peft.OFTConfig(oft_block_size=4, target_modules=QV)), "Two OFT adapters cannot"),
    "dora sum": (
        lambda m, p, t: combine_adapters(
            get_peft_model(base(), LoraConfig(use_dora=True, target_modules=QV), adapter_name="fit"),
            {"fit": 1.0},
            "sum",
        ),
        "is LORA with DoRA: only plain LoRA adapters add up",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(three, tmp_path, case):
    plain, paths = three
    tiny.bert(seed=3).save_pretrained(tmp_path / "other")
    model = load_adapters(plain, paths)
    make, message = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(model, paths, tmp_path)


def test_adapters_of_different_backbones_do_not_share_one(tmp_path):
    paths = domains(tmp_path)
    tiny.bert(seed=3).save_pretrained(tmp_path / "other")
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path / "other")
    get_peft_model(other, LoraConfig(target_modules=QV)).save_pretrained(tmp_path / "strange")
    with pytest.raises(ValueError, match="are of different backbones"):
        load_adapters(base(), paths | {"strange": str(tmp_path / "strange")})


def test_a_task_weight_of_zero_needs_an_objective(tmp_path):
    with pytest.raises(ValueError, match="task_weight=0 leaves nothing to train on"):
        runs.config(tmp_path, objectives=None, task_weight=0)
    with pytest.raises(ValueError, match="task_weight=-1 must be"):
        runs.config(tmp_path, task_weight=-1)
