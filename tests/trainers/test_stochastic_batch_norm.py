"""Runs under stochastic normalisation: the batch's rows together, plain models out, resumed bit for bit, refusals."""

from __future__ import annotations

import blobs
import pytest
import runs
import tiny
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

from hftransfer import AdaptationTrainer
from hftransfer.models.batch_norm_statistics import batch_norms
from hftransfer.models.stochastic_norm import ChannelMix
from hftransfer.trainers.saving.checkpoint_files import STATE_FILE


def run(folder, model=None, peft_config=None, **settings) -> AdaptationTrainer:
    """A trainer on grey blobs, the target's brighter."""
    args = runs.config(folder, **{"objectives": {"mmd": 0.1}, "batch_norm": "stochastic", **settings})
    return AdaptationTrainer(
        model or blobs.resnet(),
        args,
        blobs.domain(20, 0),
        blobs.domain(21, 1, 80, labelled=False),
        {"source": blobs.domain(12, 3)},
        blobs.processor(),
        peft_config,
    )


def pixels(rows: int = 6) -> torch.Tensor:
    return blobs.processor()(blobs.domain(rows, 5, 80)["image"][:], return_tensors="pt")["pixel_values"]


def test_a_training_forward_is_the_mix_and_evaluation_the_plain_model(tmp_path):
    """All rows of both domains choose together; the objective sees what comes of it."""
    trainer = run(tmp_path, batch_norm_mix=0.4, seed=7)
    adapter, batch = trainer.model.train(), next(iter(trainer.get_train_dataloader()))
    assert (adapter.batch_norm_mix.share, adapter.batch_norm_mix.seed) == (0.4, 7)
    by_hand, mix = blobs.resnet().train(), ChannelMix(0.4, 7)
    by_hand.load_state_dict(adapter.model.state_dict())
    with mix.mixing(by_hand):
        expected = by_hand(pixel_values=batch["pixel_values"]).logits
    out = adapter(**batch)
    torch.testing.assert_close(out.logits, expected)
    out.loss.backward()
    for name, buffer in by_hand.named_buffers():
        torch.testing.assert_close(adapter.model.get_buffer(name), buffer)
    plain = by_hand(pixel_values=batch["pixel_values"]).logits
    assert (plain - expected).abs().max() > 1e-3
    adapter.eval()
    with torch.no_grad():
        assert torch.equal(adapter(**batch).logits, adapter.model(pixel_values=batch["pixel_values"]).logits)
    assert adapter.batch_norm_mix.count == 1


def test_what_is_saved_is_a_plain_model(tmp_path):
    model = blobs.resnet()
    before = {name: b.clone() for name, b in model.named_buffers()}
    trainer = run(tmp_path, model, max_steps=3, save_strategy="steps", save_steps=3)
    trainer.train()
    saved = AutoModelForImageClassification.from_pretrained(tmp_path / "checkpoint-3")
    assert set(saved.state_dict()) == set(blobs.resnet().state_dict())
    assert "batch_norm_mix.step" in load_file(tmp_path / "checkpoint-3" / STATE_FILE)
    assert not any(torch.equal(saved.get_buffer(name), b) for name, b in before.items())
    assert not any(m._forward_hooks for m in batch_norms(trainer.model.model).values())
    with torch.no_grad():
        torch.testing.assert_close(saved(pixels()).logits, trainer.model.model.eval()(pixels()).logits)


def test_a_resumed_run_equals_one_that_was_left_alone(tmp_path):
    def go(folder, steps, resume=None):
        made = run(folder, max_steps=6, save_strategy="steps", save_steps=3, augment="strong")
        made.args.max_steps = steps
        made.train(resume_from_checkpoint=resume)
        return made

    assert runs.resumed_is_alike(go, tmp_path).model.state_dict()["batch_norm_mix.step"] == 6


def test_the_seed_and_the_share_matter(tmp_path):
    """Same start, same rows: what differs is the choice of channels."""
    found = []
    for settings in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"seed": 1, "batch_norm_mix": 1.0}):
        trainer = run(tmp_path / str(len(found)), augment="none", data_seed=0, **settings)
        trainer.train()
        found.append(runs.logged(trainer, "task_loss"))
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0] != found[3]


@pytest.mark.parametrize("objectives", [{"nt_xent": 0.03, "dann": 0.1}, {"lwf": 1.0}, None])
def test_it_goes_with_second_views_teachers_and_accumulation(tmp_path, objectives):
    """A forward is one choice: there are as many as micro-batches."""
    trainer = run(tmp_path, objectives=objectives, gradient_accumulation_steps=2)
    before = runs.copied(trainer.model.model)
    trainer.train()
    assert runs.moved(trainer.model.model, before) == set(before)
    assert trainer.model.batch_norm_mix.count == int(trainer.model.batch_norm_mix.step) == 4


def test_frozen_layers_keep_their_statistics(tmp_path):
    model = blobs.resnet()
    before = {name: b.clone() for name, b in model.named_buffers() if "running" in name}
    run(tmp_path, model, trainable="last_1").train()
    moved = {name for name, b in before.items() if not torch.equal(model.get_buffer(name), b)}
    assert moved == {name for name in before if ".stages.1." in name}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainable": "head"}, r"no effect: every batch norm of the model is frozen by trainable='head'"),
        ({"peft_config": LoraConfig(r=2)}, "no effect: every batch norm of the model is frozen by an adapter"),
        ({"batch_norm_mix": 0.0}, "batch_norm_mix=0.0 must be above 0 and at most 1.* that is batch_norm='joint'"),
        ({"batch_norm": "joint", "batch_norm_mix": 0.3}, "0.3 has no effect without batch_norm='stochastic'"),
        ({"activation_checkpointing": True}, "does not go with gradient checkpointing"),
        ({"forward_rows": 4}, "forward_rows=4 runs a batch in pieces"),
    ],
)
def test_refusals(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_model_without_batch_norm_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"batch_norm='stochastic', but Bert.* has no batch norm with running"):
        runs.trainer(tmp_path, tiny.bert(), batch_norm="stochastic")


def test_a_compiled_run_makes_the_same_choices(tmp_path):
    torch._dynamo.reset()
    plain = run(tmp_path / "plain", augment="none")
    compiled = run(tmp_path / "compiled", augment="none", torch_compile=True, torch_compile_backend="eager")
    for trainer in (plain, compiled):
        trainer.train()
    assert runs.logged(plain, "task_loss") == pytest.approx(runs.logged(compiled, "task_loss"), rel=1e-4)
