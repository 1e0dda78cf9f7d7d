"""Recurrent and state-space models of text: feature hook, freezing and LoRA by the same rules, on a CPU."""

from __future__ import annotations

import families
import pytest
import runs
import torch
from families import RECURRENT, RECURRENT_TAGGERS, SEQUENCE, TOKEN
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from hftransfer.models.adapters import attach_adapter, check_mergeable, complete_peft_config, merged_copy
from hftransfer.models.feature_hook import FeatureHook, find_head
from hftransfer.models.freezing import set_trainable
from hftransfer.models.layer_hook import LayerHook
from hftransfer.models.model_structure import embedding_modules, head_modules, layer_stack

BATCH = families.batch()
CASES = [(family, SEQUENCE) for family in RECURRENT] + [(family, TOKEN) for family in RECURRENT_TAGGERS]
HEADLESS = ("rwkv", "mamba", "mamba2", "falcon_mamba", "xlstm", "recurrent_gemma", "bamba", "falcon_h1", "lfm2")


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**BATCH).logits


def test_which_families_have_a_head():
    """The table of the documentation; a family that gets a head belongs to the tests above."""
    assert set(RECURRENT) <= set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    taggers = set(RECURRENT) & set(MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES)
    assert taggers == set(RECURRENT_TAGGERS)
    assert not set(HEADLESS) & set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_parts_and_features(family, task):
    model = families.build(family, task).eval()
    head = find_head(model, BATCH)
    stack, blocks = layer_stack(model)
    assert (stack, len(blocks)) == ("model.layers", 6 if family == "zamba" else 4)
    assert (head.name, head.in_features, head.pooled_after) == ("score", 32, task == SEQUENCE)
    assert not head.idle
    assert (head_modules(model, head), embedding_modules(model)) == (["score"], ["model.embed_tokens"])
    hook, inner = FeatureHook(model, head), LayerHook(model, "hidden:0")
    out = model(**BATCH).logits
    torch.testing.assert_close(model.score(hook.take(BATCH)), out, rtol=1e-6, atol=1e-6)
    assert inner.take(BATCH, pool=True).shape == (3, 32)


@pytest.mark.parametrize(
    "choice", ["last_1", *(pytest.param(c, marks=pytest.mark.slow) for c in ("head", "embeddings"))]
)
@pytest.mark.parametrize("family", RECURRENT)
def test_in_training_exactly_what_should_train_trains(family, choice, tmp_path):
    """Zamba's layers share weights: what a frozen layer shares stays as it is."""
    model = families.build(family)
    stack, blocks = layer_stack(model)
    last = f"{stack}.{len(blocks) - 1}."
    shared = {id(p) for block in list(blocks)[:-1] for p in block.parameters()}
    expected = {
        "head": {"score.weight"},
        "last_1": {n for n, p in model.named_parameters() if n.startswith(last) and id(p) not in shared}
        | {n for n, _ in model.named_parameters() if not n.startswith(f"{stack}.") and "embed" not in n},
        "embeddings": {n for n, _ in model.named_parameters() if not n.startswith("model.embed_tokens.")},
    }[choice]
    settings = {"freeze" if choice == "embeddings" else "trainable": choice}
    assert set_trainable(model, find_head(model, BATCH), **settings).names == expected
    before = runs.copied(model)
    run = runs.trainer(tmp_path, model, processing_class=families.tokenizer(), max_steps=1, **settings)
    run.train()
    moved = runs.moved(model, before)
    assert moved <= expected
    assert len(moved) > 0.8 * len(expected)  # an expert that no token was sent to, a decay that underflows


@pytest.mark.parametrize(("family", "task"), CASES)
def test_lora_reloads_and_merges(family, task, tmp_path):
    """Mamba's mixers read some linears without calling them, and Zamba shares some: those are left out, so that the
    merged model is the adapted one."""
    base, plain = families.build(family, task), families.build(family, task)
    start, head = logits(base), find_head(base, BATCH)
    model = attach_adapter(base, LoraConfig(r=2, init_lora_weights=False), head, BATCH)
    adapted = {n.removeprefix("base_model.model.") for n, m in model.named_modules() if hasattr(m, "lora_A")}
    assert any(name.startswith("model.layers.0.") for name in adapted)
    assert not adapted & head.uncalled
    out = logits(model)
    assert (out - start).abs().max() > 1e-2
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(plain, tmp_path)), out, rtol=0, atol=1e-6)
    alone = merged_copy(model)
    torch.testing.assert_close(logits(alone), out, rtol=0, atol=1e-5)
    alone.save_pretrained(tmp_path / "merged")
    auto = AutoModelForTokenClassification if task == TOKEN else AutoModelForSequenceClassification
    torch.testing.assert_close(logits(auto.from_pretrained(tmp_path / "merged")), out, rtol=1e-4, atol=1e-5)


def test_what_is_left_out():
    model = families.build("jamba")
    head = find_head(model, BATCH)
    assert {n.rpartition(".")[2] for n in head.uncalled} == {"conv1d", "dt_proj"}
    chosen = complete_peft_config(model, LoraConfig(), head).target_modules
    assert not any(name.endswith("dt_proj") for name in chosen)
    assert "model.layers.0.mamba.x_proj" in chosen
    with pytest.raises(ValueError, match=r"weights of 'model.layers.0.mamba.dt_proj' without calling it, past any"):
        attach_adapter(model, LoraConfig(target_modules=["dt_proj"]), head)
    zamba = families.build("zamba2")
    chosen = complete_peft_config(zamba, LoraConfig(), find_head(zamba, BATCH)).target_modules
    assert not any("shared_transformer" in name for name in chosen)


def test_adapters_on_a_shared_weight_are_not_merged():
    model = families.build("zamba2")
    head = find_head(model, BATCH)
    wrapped = attach_adapter(model, LoraConfig(r=2, target_modules=["q_proj"]), head, BATCH)
    with pytest.raises(ValueError, match="share one weight, which would get both adapters"):
        check_mergeable(wrapped)
