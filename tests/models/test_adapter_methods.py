"""PEFT's methods on texts, transformers of images and convolutions: each trains, saves, reloads and merges, or is
refused with the reason."""

from __future__ import annotations

import families
import peft
import pytest
import runs
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel

from hftransfer.models.adapters import attach_adapter, check_mergeable, complete_peft_config, merged_copy
from hftransfer.models.batch_norm_statistics import freeze_batch_norms
from hftransfer.models.feature_hook import find_head

METHODS = {
    "LoRA": lambda: LoraConfig(r=2),
    "DoRA": lambda: LoraConfig(r=2, use_dora=True),
    "rsLoRA": lambda: LoraConfig(r=2, use_rslora=True),
    "PiSSA": lambda: LoraConfig(r=2, init_lora_weights="pissa"),
    "IA3": lambda: peft.IA3Config(),
    "LN tuning": lambda: peft.LNTuningConfig(),
    "BEFT": lambda: peft.BeftConfig(),
    "LoHa": lambda: peft.LoHaConfig(r=2),
    "LoKr": lambda: peft.LoKrConfig(r=2),
    "BOFT": lambda: peft.BOFTConfig(boft_block_size=4),
    "OFT": lambda: peft.OFTConfig(r=0, oft_block_size=4),
    "HRA": lambda: peft.HRAConfig(r=2),
    "VeRA": lambda: peft.VeraConfig(r=4),
    "FourierFT": lambda: peft.FourierFTConfig(n_frequency=10),
    "VB-LoRA": lambda: peft.VBLoRAConfig(r=2, num_vectors=8, vector_length=4, topk=2),
    "RandLoRA": lambda: peft.RandLoraConfig(r=4),
    "MiSS": lambda: peft.MissConfig(r=4),
    "SHiRA": lambda: peft.ShiraConfig(r=2),
    "RoAd": lambda: peft.RoadConfig(group_size=4),
    "C3A": lambda: peft.C3AConfig(block_size=4),
    "DeLoRA": lambda: peft.DeloraConfig(r=2),
    "WaveFT": lambda: peft.WaveFTConfig(n_frequency=10),
}
LINEAR_ONLY = ("VeRA", "FourierFT", "VB-LoRA", "RandLoRA", "MiSS", "SHiRA", "RoAd", "C3A", "DeLoRA", "WaveFT")
REFUSALS = dict.fromkeys(LINEAR_ONLY, "only|Linear|compatible") | {
    "PiSSA": "Unknown initialization init_lora_weights='pissa'",
    "BEFT": "ResNetForImageClassification has no linear layers with a bias outside its head",
    "OFT": "PEFT cannot put OFT on ResNetForImageClassification",
}
COMMON = ("LoRA", "DoRA", "rsLoRA", "PiSSA", "IA3", "LN tuning", "BEFT", "BOFT", "VeRA", "FourierFT")
MODELS = ("bert", "vit", "resnet")
LABELS = torch.tensor([0, 1, 2, 0])


def build(name: str):
    return families.build(name) if name == "bert" else families.build_vision(name)


def batch(name: str) -> dict[str, torch.Tensor]:
    return families.batch(rows=4) if name == "bert" else families.images()


def logits(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits


@pytest.mark.parametrize("method", [m if m in COMMON else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
@pytest.mark.parametrize("name", MODELS)
def test_a_method_trains_saves_reloads_and_merges_or_is_refused(name, method, tmp_path):
    """What it adds and the head move and nothing else; what is reloaded and what is merged predict the same."""
    base, plain, inputs = build(name), build(name), batch(name)
    start, head = logits(base, inputs), find_head(base, inputs)
    if name == "resnet" and method in REFUSALS:
        with pytest.raises(ValueError, match=REFUSALS[method]):
            attach_adapter(base, METHODS[method](), head, inputs)
        return
    model = attach_adapter(base, METHODS[method](), head, inputs)
    own = {n for n, p in plain.named_parameters() if not n.startswith("classifier")}
    moving = {n for n, p in model.named_parameters() if p.requires_grad}
    assert moving
    assert not {n.removeprefix("base_model.model.") for n in moving} & own
    assert any("classifier" in n for n in moving)
    before = runs.copied(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model.train()
        freeze_batch_norms(model)
        F.cross_entropy(model(**inputs).logits, LABELS).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = runs.moved(model, before)
    assert moved <= moving
    assert len(moved) > 0.8 * len(moving)
    trained = logits(model, inputs)
    assert (trained - start).abs().max() > 1e-2

    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(plain, tmp_path), inputs), trained, rtol=0, atol=1e-6)
    alone = merged_copy(model)
    assert type(alone) is type(build(name))
    torch.testing.assert_close(logits(alone, inputs), trained, rtol=0, atol=1e-5)


def test_ia3_scales_the_input_of_what_narrows():
    """The inner activation of each feed-forward block, and the outputs of the other linears."""
    model = families.build_vision("vit")
    config = complete_peft_config(model, peft.IA3Config(), find_head(model, families.images()))
    assert config.feedforward_modules == [f"vit.layers.{i}.mlp.fc2" for i in range(3)]
    assert len(config.target_modules) == 18


def test_norm_tuning_takes_every_norm_of_the_backbone():
    model = families.build_vision("resnet")
    config = complete_peft_config(model, peft.LNTuningConfig(), find_head(model, families.images()))
    assert set(config.target_modules) == {n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}


def test_ranks_that_nothing_would_share_out_are_refused():
    model = families.build("bert")
    head = find_head(model, families.batch())
    with pytest.raises(ValueError, match="ADALORA is not supported: nothing calls its `update_and_allocate`"):
        attach_adapter(model, peft.AdaLoraConfig(total_step=10), head)


@pytest.mark.parametrize("config", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
def test_virtual_tokens_are_for_texts_and_are_not_merged(config):
    model = families.build("bert")
    wrapped = attach_adapter(
        model, config(task_type="SEQ_CLS", num_virtual_tokens=3), find_head(model, families.batch()), families.batch()
    )
    assert logits(wrapped, families.batch()).shape == (3, 3)
    with pytest.raises(ValueError, match="TUNING changes no weights, so it cannot be merged"):
        check_mergeable(wrapped)
    model = families.build_vision("vit")
    with pytest.raises(ValueError, match="TUNING on ViTForImageClassification"):
        attach_adapter(model, config(task_type="SEQ_CLS", num_virtual_tokens=3), find_head(model, families.images()))
