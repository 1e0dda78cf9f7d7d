"""Ways to compute a step: recomputed activations, a compiled module, bf16. The run stays what it was."""

from __future__ import annotations

import math

import families
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from transformers.models.bert.modeling_bert import BertAttention

OBJECTIVES = {"mmd": {"weight": 1.0, "schedule": "constant"}, "dann": 0.1, "nt_xent": 0.03}


def train(folder, model=None, **settings):
    """With dropout on, so that a forward that is run again must draw the same masks."""
    run = runs.trainer(folder, model, objectives=OBJECTIVES, learning_rate=1e-3, max_steps=3, **settings)
    before = runs.copied(run.model)
    run.train()
    return run, before


def losses(run) -> dict[str, list[float]]:
    return {f"{name}_loss": runs.logged(run, f"{name}_loss") for name in ("task", *OBJECTIVES)}


@pytest.mark.parametrize("adapter", [None, LoraConfig(r=2)], ids=["full", "lora"])
def test_recomputed_activations_change_nothing(adapter, tmp_path, monkeypatch):
    forwards, forward = [], BertAttention.forward
    monkeypatch.setattr(
        BertAttention, "forward", lambda *args, **kwargs: forwards.append(1) or forward(*args, **kwargs)
    )
    plain, _ = train(tmp_path / "plain", peft_config=adapter)
    once = len(forwards)
    again, before = train(tmp_path / "again", peft_config=adapter, activation_checkpointing=True)
    probes = 2 * (3 if adapter else 1)  # layers, in forwards that look for the head and try the adapter
    assert len(forwards) - once - probes == 2 * (once - probes)
    for name, values in losses(again).items():
        assert values == pytest.approx(losses(plain)[name], rel=1e-5, abs=1e-7)
    moving = {name for name, p in again.model.named_parameters() if p.requires_grad}
    assert runs.moved(again.model, before) == moving


def test_a_compiled_run_is_the_same_run(tmp_path):
    """In one graph for one shape and one for all others, without a break."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    plain, _ = train(tmp_path / "plain", tiny.bert(num_hidden_layers=1))
    compiled, _ = train(
        tmp_path / "compiled", tiny.bert(num_hidden_layers=1), torch_compile=True, torch_compile_backend="eager"
    )
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    assert not counters["graph_break"]
    for name, values in losses(compiled).items():
        assert values == pytest.approx(losses(plain)[name], rel=1e-4, abs=1e-6)
    compiled.save_model(str(tmp_path / "model"))
    reloaded = type(tiny.bert()).from_pretrained(tmp_path / "model")
    assert not runs.moved(reloaded, runs.copied(compiled.model.model))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_bf16_keeps_weights_in_fp32(family, tmp_path):
    def run(name, **settings):
        return train(tmp_path / name, families.build(family), processing_class=families.tokenizer(), **settings)

    (full, _), (half, before) = run("fp32"), run("bf16", bf16=True)
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert runs.moved(half.model, before) == set(before)
    ours, exact = losses(half), losses(full)
    assert all(math.isfinite(value) for values in ours.values() for value in values)
    assert ours["task_loss"] == pytest.approx(exact["task_loss"], rel=0.02)
    assert ours["task_loss"] != exact["task_loss"]  # it did compute in another precision
