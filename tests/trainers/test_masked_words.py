"""`masked_lm` in a run: hidden words of target rows are predicted beside the task."""

from __future__ import annotations

import logging
import math

import numpy as np
import pictures
import pytest
import runs
import tiny
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from hftransfer.data.token_words import TokenWords
from hftransfer.trainers.step.masked_forward import WordHiding

FULL = {"masked_lm": {"weight": 1.0, "schedule": "constant"}}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def first_step(run):
    """The joint model in training, and its first batch."""
    return run.model.train(), next(iter(run.get_train_dataloader()))


def test_the_loss_is_that_of_the_formula(tmp_path):
    """Hidden states from the backbone by itself, the rest in float64 NumPy."""
    run = runs.trainer(tmp_path, tiny.bert(initializer_range=0.2, **STILL), objectives=FULL)
    joint, batch = first_step(run)
    head, n, model = joint.objectives["masked_lm"], batch["num_source"], joint.model
    for number in range(2):
        found = joint(**batch).losses[1].item()
        rows = {k: batch[k][n:] for k in ("input_ids", "attention_mask", "token_type_ids")}
        hiding = WordHiding(tiny.tokenizer())
        read, at, stood = hiding(rows["input_ids"], rows["attention_mask"], number, 0.15)
        hidden = model.bert(**rows | {"input_ids": read}).last_hidden_state.detach().double().numpy()
        weights = {k: v.detach().double().numpy() for k, v in head.named_parameters()}
        x = hidden.reshape(-1, 32)[at.numpy()] @ weights["dense.weight"].T + weights["dense.bias"]
        erf = np.vectorize(math.erf)
        x = x * 0.5 * (1 + erf(x / np.sqrt(2)))
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + head.norm.eps)
        x = x * weights["norm.weight"] + weights["norm.bias"]
        z = x @ model.bert.embeddings.word_embeddings.weight.detach().double().numpy().T + weights["bias"]
        z -= z.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        assert found == pytest.approx(-log_p[np.arange(len(at)), stood.numpy()].mean(), rel=1e-5)
    assert head.calls == 2


def test_the_backbone_the_embeddings_and_the_head_get_its_gradient_and_the_classifier_does_not(tmp_path):
    run = runs.trainer(tmp_path, tiny.bert(**STILL), objectives=FULL, task_weight=0.0)
    joint, batch = first_step(run)
    joint(**batch).loss.backward()
    moved = {n for n, p in joint.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert {"model.bert.embeddings.word_embeddings.weight", "model.bert.encoder.layer.0.output.dense.weight"} <= moved
    assert {f"objectives.by_name.masked_lm.{n}" for n in ("dense.weight", "norm.weight", "bias")} <= moved
    assert not any("classifier" in name or "pooler" in name for name in moved)


def test_the_task_is_that_of_a_run_without(tmp_path):
    losses = []
    for objectives in (FULL, None):
        joint, batch = first_step(runs.trainer(tmp_path, tiny.bert(**STILL), objectives=objectives))
        out = joint(**batch)
        losses.append((out.losses[0], out.logits))
        assert joint.joint_forward.features.feature_hook._features is None
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


def test_about_a_share_of_the_tokens_is_masked_in_whole_words(tmp_path):
    tokenizer = tiny.tokenizer()
    texts = [" ".join(f"w{i % 40}x" if i % 3 else f"w{i % 40}" for i in range(k, k + 20)) for k in range(200)]
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    hiding = WordHiding(tokenizer)
    read, at, stood = hiding(ids, mask, 3, 0.15)
    assert len(at) / int((ids > 4).sum()) == pytest.approx(0.15, abs=0.01)
    assert torch.equal(ids.flatten()[at], stood)
    changed = (read != ids).flatten()
    assert set(changed.nonzero().flatten().tolist()) <= set(at.tolist())
    hidden = (read.flatten()[at] == tokenizer.mask_token_id).float().mean().item()
    assert hidden == pytest.approx(0.8, abs=0.05)
    chosen = torch.zeros(ids.numel(), dtype=torch.bool)
    chosen[at] = True
    for row, own in zip(ids.tolist(), chosen.view_as(ids).tolist(), strict=True):
        words = TokenWords(tokenizer)(row)
        for number in range(max(words) + 1):
            assert len({c for c, w in zip(own, words, strict=True) if w == number}) == 1


def test_a_row_is_masked_alike_wherever_it_is_and_otherwise_by_the_next_call():
    tokenizer = tiny.tokenizer()
    hiding = WordHiding(tokenizer)
    texts = [" ".join(f"w{i}" for i in range(k, k + 9 + k)) for k in range(6)]

    def masked(chosen, number=0, side="right"):
        encoded = tokenizer([texts[i] for i in chosen], return_tensors="pt", padding=True, padding_side=side)
        read, _, _ = hiding(encoded["input_ids"], encoded["attention_mask"], number, 0.3)
        return [row[seen.bool()].tolist() for row, seen in zip(read, encoded["attention_mask"], strict=True)]

    whole = masked(range(6))
    assert masked([4, 1], side="left") == [whole[4], whole[1]]
    assert masked(range(6), number=1) != whole


@pytest.mark.slow
def test_it_is_resumed_to_the_bit(tmp_path):
    def go(folder, steps, resume=None):
        saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": steps}
        run = runs.trainer(folder, objectives=FULL, **saving)
        run.train(resume_from_checkpoint=resume)
        return run

    whole = runs.resumed_is_alike(go, tmp_path)
    assert whole.model.objectives["masked_lm"].calls == 6


def test_all_moves_and_the_saved_model_has_no_masked_language_head(tmp_path):
    run = runs.trainer(tmp_path / "run", objectives=FULL)
    before = runs.copied(run.model)
    run.train()
    assert runs.moved(run.model, before) == set(before)
    run.save_model(str(tmp_path / "saved"))
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.state_dict().keys() == tiny.bert().state_dict().keys()


def test_taggers_learn_it_too(tmp_path):
    data = {"train_dataset": tiny.tagged(), "target_dataset": tiny.tagged(seed=1, labelled=False)}
    run = runs.trainer(tmp_path, tiny.bert(tiny.TAGS, tagging=True), objectives=FULL, **data)
    run.train()
    assert all(value > 1 for value in runs.logged(run, "masked_lm_loss"))


def test_it_starts_from_the_head_of_the_checkpoint(tmp_path, caplog):
    torch.manual_seed(0)
    masked_model = BertForMaskedLM(tiny.bert(initializer_range=0.2).config)
    with torch.no_grad():
        for parameter in masked_model.cls.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    masked_model.save_pretrained(tmp_path / "masked")
    tiny.tokenizer().save_pretrained(tmp_path / "masked")
    run = runs.trainer(tmp_path / "run", str(tmp_path / "masked"), objectives=FULL)
    head, theirs = run.model.objectives["masked_lm"], masked_model.cls.predictions
    torch.testing.assert_close(head.dense.weight, theirs.transform.dense.weight, rtol=0, atol=0)
    torch.testing.assert_close(head.norm.bias, theirs.transform.LayerNorm.bias, rtol=0, atol=0)
    torch.testing.assert_close(head.bias, theirs.bias, rtol=0, atol=0)
    with caplog.at_level(logging.WARNING):
        tiny.bert().save_pretrained(tmp_path / "plain")
        tiny.tokenizer().save_pretrained(tmp_path / "plain")
        runs.trainer(tmp_path / "run2", str(tmp_path / "plain"), objectives=FULL)
    assert "trained from scratch" in caplog.text


# ---- what cannot be masked


def test_images_are_refused(tmp_path):
    given = {"train_dataset": pictures.pictures(24), "target_dataset": pictures.pictures(18, 1, dark=True)}
    with pytest.raises(ValueError, match="reads images: leave it out"):
        runs.trainer(
            tmp_path / "run", pictures.resnet(), processing_class=pictures.processor(), objectives=FULL, **given
        )
    assert not (tmp_path / "run").exists()


def test_decoders_are_refused(tmp_path):
    names = dict(enumerate(tiny.LABELS))
    config = GPT2Config(
        vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=64, pad_token_id=0, id2label=names,
        label2id={v: k for k, v in names.items()},
    )  # fmt: skip
    with pytest.raises(ValueError, match="from both sides, and GPT2ForSequenceClassification is no such model"):
        runs.trainer(tmp_path / "run", GPT2ForSequenceClassification(config), objectives=FULL)


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="has no mask token"):
        runs.trainer(tmp_path / "run", processing_class=tokenizer, objectives=FULL)


@pytest.mark.parametrize("flag", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_runs_are_refused(tmp_path, monkeypatch, flag):
    monkeypatch.setattr("hftransfer.trainers.setup.masked_words.parse_flag_from_env", lambda key: key == flag)
    with pytest.raises(ValueError, match="Run it under DDP, or on one process"):
        runs.trainer(tmp_path / "run", objectives=FULL)
    assert not (tmp_path / "run").exists()
    runs.trainer(tmp_path / "run", objectives={"masked_lm": 0.0, "mmd": 0.1})
