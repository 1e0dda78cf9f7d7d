"""Ways to compute a step: recomputed activations, a compiled module, bf16. The run stays what it was."""

from __future__ import annotations

import families
import pytest
import runs
import tiny
import torch
from peft import LoraConfig

OBJECTIVES = {"mmd": {"weight": 1.0, "schedule": "constant"}, "dann": 1.0, "nt_xent": 1.0}


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
    forwards = []
    forward = type(tiny.bert().bert.encoder.layer[0]).forward
    monkeypatch.setattr(
        type(tiny.bert().bert.encoder.layer[0]),
        "forward",
        lambda self, *args, **kwargs: forwards.append(1) or forward(self, *args, **kwargs),
    )
    plain, _ = train(tmp_path / "plain", peft_config=adapter)
    once = len(forwards)
    again, before = train(tmp_path / "again", peft_config=adapter, activation_checkpointing=True)
    probes = 2 * (2 if adapter else 1)  # layers, in the forward or two that look for the head
    assert len(forwards) - once - probes == 2 * (once - probes)
    for name, values in losses(again).items():
        assert values == pytest.approx(losses(plain)[name], rel=1e-5, abs=1e-7)
    moving = {name for name, p in again.model.named_parameters() if p.requires_grad}
    assert runs.moved(again.model, before) == moving


def test_a_compiled_run_is_the_same_run(tmp_path):
    torch._dynamo.reset()
    plain, _ = train(tmp_path / "plain")
    compiled, _ = train(tmp_path / "compiled", torch_compile=True, torch_compile_backend="eager")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, values in losses(compiled).items():
        assert values == pytest.approx(losses(plain)[name], rel=1e-4, abs=1e-6)
    compiled.save_model(str(tmp_path / "model"))
    reloaded = type(tiny.bert()).from_pretrained(tmp_path / "model")
    assert not runs.moved(reloaded, runs.copied(compiled.model.model))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_bf16_keeps_weights_and_objectives_in_fp32(family, tmp_path):
    def run(name, **settings):
        return train(tmp_path / name, families.build(family), processing_class=families.tokenizer(), **settings)

    full, half = run("fp32")[0], run("bf16", bf16=True)[0]
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    for name, values in losses(half).items():
        assert values == pytest.approx(losses(full)[name], rel=0.1, abs=0.05)
    assert losses(half) != losses(full)  # it did compute in another precision
