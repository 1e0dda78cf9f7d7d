"""Sentence pre-training without masked words: a plain encoder is trained, measured without labels, and saved."""

from __future__ import annotations

import json

import masked_models
import numpy as np
import pretraining_runs as runs
import pytest
import tiny
import torch
from peft import LoraConfig
from pretraining_runs import contrast_by_hand as by_hand
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, BertModel

from hftransfer import prepare_pretraining
from hftransfer.pretraining.held_out_scores import held_out_scores
from hftransfer.pretraining.plain_encoder import load_encoder
from hftransfer.pretraining.pretraining_trainer import PretrainingTrainer
from hftransfer.pretraining.sentence_measures import contrast_scores, contrast_sums
from hftransfer.pretraining.sentence_vectors import declared_pooling, row_vectors

WHOLE = {"mask_probability": 0, "sentence_contrast": 1.0}
ELSEWHERE = """
import sys
from transformers import AutoConfig, AutoModel, pipeline
print(AutoConfig.from_pretrained(sys.argv[1]).architectures[0], type(AutoModel.from_pretrained(sys.argv[1])).__name__)
print(len(pipeline("feature-extraction", sys.argv[1])("w1 w2")[0]))
"""


def encoder(family: str = "bert"):
    return masked_models.masked_model(family).base_model


def prepared_run(folder, model=None, **settings):
    args = runs.config(folder, **WHOLE | settings)
    given = {"target": runs.TARGET, "processing_class": tiny.tokenizer()}
    return prepare_pretraining(encoder() if model is None else model, args, **given), args


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = runs.run(folder, {"model": encoder()}, max_steps=25, held_out=0.2, learning_rate=2e-3, **WHOLE)
    return folder, result


def test_the_contrast_of_held_out_texts_falls_and_stands_in_place_of_the_perplexity(trained):
    folder, result = trained
    assert result.perplexity_before is result.perplexity_after is None
    assert result.scores_after["sentence_contrast"] < 0.9 * result.scores_before["sentence_contrast"]
    assert not result.got_worse
    scores = json.loads((folder / "results.json").read_text())
    for name in ("sentence_contrast", "alignment", "uniformity"):
        assert scores[f"{name}_before"] == result.scores_before[name]
        assert scores[f"{name}_after"] == result.scores_after[name]
    assert "perplexity_before" not in scores
    card = (folder / "README.md").read_text()
    assert card.count("Contrast of two readings") == 1
    assert "Weighted sum" not in card
    assert "fill-mask" not in card


@pytest.mark.parametrize(("others", "lines"), [({}, 0), ({"sentence_denoising": 0.5}, 2)])
def test_a_sum_of_one_loss_is_not_said_twice(tmp_path, capsys, others, lines):
    runs.run(tmp_path, {"model": encoder()}, max_steps=1, **WHOLE | others)
    printed = capsys.readouterr().out
    assert printed.count("Contrast of two readings of 3 held-out rows") == 2
    assert printed.count("Weighted sum of the losses of 3 held-out rows") == lines


def test_what_is_saved_is_the_encoder_alone(trained):
    folder, _ = trained
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertModel"]
    assert not [name for name in load_file(folder / "model.safetensors") if name.startswith("cls.")]
    task = AutoModelForSequenceClassification.from_pretrained(folder)
    weight = AutoModel.from_pretrained(folder).embeddings.word_embeddings.weight
    assert torch.equal(task.bert.embeddings.word_embeddings.weight, weight)


@pytest.mark.slow
def test_it_loads_where_hftransfer_is_not(trained, run_elsewhere):
    assert run_elsewhere(ELSEWHERE, trained[0]).split() == ["BertModel", "BertModel", "4"]


def test_whole_texts_are_read_and_no_head_is_made(tmp_path):
    prepared, args = prepared_run(tmp_path, BertModel(masked_models.CONFIGS["bert"]()))  # with a pooler
    batch = next(iter(PretrainingTrainer(prepared, args).get_train_dataloader()))
    assert batch.keys() == {"rows", "input_ids", "segments", "places"}
    assert (batch["input_ids"] != tiny.tokenizer().mask_token_id).all()
    joint = prepared.joint.train()
    assert joint.loss_names == ["sentence_contrast"]
    assert joint.head is None
    torch.manual_seed(3)
    output = joint(**batch)
    torch.manual_seed(3)
    vectors = [joint.sentence_vectors(batch, "mean").detach().double().numpy() for _ in range(2)]
    assert output.loss.item() == pytest.approx(by_hand(*vectors, 0.05), rel=1e-4)
    output.loss.backward()
    without = [name for name, p in joint.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []  # what two processes wait for
    assert not joint.model.pooler.dense.weight.requires_grad


def test_held_out_scores_are_the_same_each_time_and_leave_no_trace(tmp_path):
    prepared, args = prepared_run(tmp_path, held_out=21, per_device_eval_batch_size=8)
    assert sorted(batch["rows"] for batch in prepared.held_out) == [7, 7, 7]
    prepared.joint.train()
    torch.manual_seed(8)
    state = torch.random.get_rng_state()
    measured = (prepared.joint, prepared.kind, prepared.held_out, args.seed, torch.device("cpu"))
    scores = [held_out_scores(*measured) for _ in range(2)]
    assert scores[0] == scores[1]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert prepared.joint.training
    expected = []
    for number, batch in enumerate(prepared.held_out):
        torch.manual_seed(args.seed + number)
        expected.append([prepared.joint.sentence_vectors(batch, "mean").detach().double().numpy() for _ in range(2)])
    assert scores[0]["sentence_contrast"] == pytest.approx(np.mean([by_hand(*pair, 0.05) for pair in expected]))
    assert scores[0]["loss"] == scores[0]["sentence_contrast"]


def test_alignment_and_uniformity_are_those_of_the_formulas():
    draw = np.random.default_rng(0)
    batches = [(draw.normal(size=(rows, 4)), draw.normal(size=(rows, 4))) for rows in (5, 3, 1)]
    sums = sum(contrast_sums(torch.tensor(u), torch.tensor(v), 0.5) for u, v in batches)
    scores = contrast_scores(sums)
    units = [[x / np.linalg.norm(x, axis=1, keepdims=True) for x in pair] for pair in batches[:2]]  # one text: nothing
    aligned = np.concatenate([((u - v) ** 2).sum(1) for u, v in units])
    pairs = [
        np.exp(-2 * ((u[i] - u[j]) ** 2).sum()) for u, _ in units for i in range(len(u)) for j in range(i + 1, len(u))
    ]
    losses = np.repeat([by_hand(u, v, 0.5) for u, v in batches[:2]], [5, 3])
    assert scores["alignment"] == pytest.approx(aligned.mean(), abs=1e-12)
    assert scores["uniformity"] == pytest.approx(np.log(np.mean(pairs)), abs=1e-12)
    assert scores["sentence_contrast"] == pytest.approx(losses.mean(), abs=1e-12)


@pytest.mark.parametrize("packing", [True, False])
def test_the_first_token_is_the_vector_where_that_is_asked_for(packing, tmp_path):
    prepared, args = prepared_run(tmp_path, sentence_pooling="cls", packing=packing)
    assert any("hidden states of first tokens (as set)" in note for note in prepared.notes)
    batch = next(iter(PretrainingTrainer(prepared, args).get_train_dataloader()))
    found = prepared.joint.eval().sentence_vectors(batch, "cls")
    for row in range(batch["rows"]):
        ids = batch["input_ids"][batch["segments"] == row]
        alone = prepared.joint.model(input_ids=ids[None])[0][0, 0]
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-5)


def test_vectors_of_rows_that_stand_in_any_order():
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    segments = torch.tensor([[2, 2, 0, -1], [1, 1, 1, -1]])
    assert row_vectors(hidden, segments, 3, "cls").flatten().tolist() == [2, 4, 0]
    assert row_vectors(hidden, segments, 3, "mean").flatten().tolist() == [2, 5, 0.5]


@pytest.mark.parametrize(
    ("declared", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode_max_tokens": True}, None),
        (None, None),
    ],
)
def test_the_pooling_that_a_checkpoint_declares(declared, pooling, tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    if declared is not None:
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(declared))
    assert declared_pooling(str(tmp_path)) == pooling


def test_a_checkpoint_of_masked_words_comes_without_its_head_and_without_a_new_pooler(tmp_path):
    masked_models.masked_model().save_pretrained(tmp_path / "bert")
    tiny.tokenizer().save_pretrained(tmp_path / "bert")
    loaded, _ = load_encoder(str(tmp_path / "bert"))
    assert type(loaded).__name__ == "BertModel"
    assert loaded.pooler is None
    assert loaded.fresh_weights == ()
    runs.run(tmp_path / "run", {"model": str(tmp_path / "bert"), "processing_class": None}, max_steps=1, **WHOLE)
    assert not [name for name in load_file(tmp_path / "run" / "model.safetensors") if "pooler" in name]
    head = AutoModelForMaskedLM.from_pretrained(tmp_path / "bert")
    assert torch.equal(loaded.embeddings.word_embeddings.weight, head.bert.embeddings.word_embeddings.weight)


def test_an_adapter_on_an_encoder_is_saved_merged(tmp_path):
    start = encoder()
    runs.run(tmp_path / "run", {"model": encoder(), "peft_config": LoraConfig(r=2)}, max_steps=3, **WHOLE)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    moved = {name for name, p in start.named_parameters() if not torch.equal(p, saved[name])}
    assert "encoder.layer.0.attention.self.query.weight" in moved
    assert not [name for name in moved if "embeddings" in name or "pooler" in name or "bias" in name]


@pytest.mark.parametrize("packing", [True, False])
def test_batches_hold_the_domains_in_equal_shares(packing, tmp_path):
    args = runs.config(tmp_path, balance_domains=True, packing=packing, held_out=0, **WHOLE)
    source = [{"text": " ".join(["w1"] * (20 + i % 9))} for i in range(9)]  # few rows, and long ones
    prepared = prepare_pretraining(encoder(), args, runs.TARGET, source, processing_class=tiny.tokenizer())
    loader = PretrainingTrainer(prepared, args).get_train_dataloader()
    sampler = loader.batch_sampler
    shares = [sum(index % len(prepared.train) < 60 for index in batch) for batch in sampler]
    assert shares == [4] * len(shares)
    assert len(shares) == 15  # a pass over the larger domain, with as many rows of the other
