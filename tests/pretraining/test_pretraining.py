"""Runs of pre-training: what moves, what is saved, how it goes on, and that processes agree."""

from __future__ import annotations

import itertools
import json

import masked_models
import numpy as np
import pretraining_runs as runs
import pretraining_worker
import pytest
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from processes import KILLED, forked
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, BertModel

from hftransfer import AdaptationConfig, AdaptationTrainer, prepare_pretraining
from hftransfer.pretraining import prepared_texts
from hftransfer.pretraining.masked_language_model import load_masked_language_model

ELSEWHERE = """
import sys
from transformers import AutoModel, AutoModelForMaskedLM, pipeline
fill = pipeline("fill-mask", sys.argv[1])
print(len(fill("w1 [MASK] w3")), type(fill.model).__name__, AutoModel.from_pretrained(sys.argv[1]).config.model_type)
"""
SLOW_KILLS = [("padded", 5), ("adapter", 9), ("stream", 5), ("contrast", 5), ("whole texts", 9), ("all", 5)]
TEACHES = [" ".join(["w1", "w2", "w3"] * 3)] * 30 + [" ".join(["w7", "w8", "w9"] * 3)] * 30


def taught(prefix: str):
    """Texts in which each word follows from the others, each with a number so that none stands there twice."""
    return [{"text": f"{text} {prefix}{i % 40}"} for i, text in enumerate(TEACHES)]


@pytest.fixture(scope="module")
def sentence_encoder(tmp_path_factory):
    """A checkpoint without a masked-language head, with a pooler."""
    folder = tmp_path_factory.mktemp("encoder")
    config = masked_models.CONFIGS["bert"]()
    torch.manual_seed(5)
    BertModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    model = runs.model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = runs.run(folder, {"model": model, "target": taught("w")}, max_steps=60, held_out=0.2)
    return folder, result, before, model


def test_perplexity_falls_and_every_parameter_moves(trained):
    folder, result, before, model = trained
    assert result.perplexity_after < 0.5 * result.perplexity_before
    assert not result.got_worse
    assert result.steps == 60
    assert result.held_out_rows == 12
    scores = json.loads((folder / "results.json").read_text())
    assert scores["perplexity_after"] == pytest.approx(result.perplexity_after)
    unmoved = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert unmoved == []
    card = (folder / "README.md").read_text()
    assert f"| after | {result.perplexity_after:.2f} |" in card
    assert "packed" in card


def test_what_is_saved_loads_where_hftransfer_is_not(trained, run_elsewhere):
    folder, *_ = trained
    assert run_elsewhere(ELSEWHERE, folder).split() == ["5", "BertForMaskedLM", "bert"]
    saved = AutoModelForMaskedLM.from_pretrained(folder)
    assert saved.get_output_embeddings().weight is saved.get_input_embeddings().weight


def test_a_task_starts_from_it(trained, tmp_path):
    folder, *_ = trained
    args = AdaptationConfig(str(tmp_path / "task"), max_steps=1, use_cpu=True, report_to="none", save_strategy="no")
    trainer = AdaptationTrainer(str(folder), args, tiny.domain())
    weight = AutoModelForMaskedLM.from_pretrained(folder).bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(trainer.prepared.model.bert.embeddings.word_embeddings.weight, weight)


def test_a_sentence_encoder_gets_a_head_and_keeps_its_pooler(sentence_encoder, tmp_path, caplog):
    loaded, _ = load_masked_language_model(str(sentence_encoder))
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert "cls.predictions.transform.dense.weight" in loaded.fresh_weights
    assert "a new one, tied to its word embeddings" in caplog.text
    runs.run(tmp_path / "run", {"model": str(sentence_encoder)}, max_steps=2)
    before = load_file(sentence_encoder / "model.safetensors")
    after = load_file(tmp_path / "run" / "model.safetensors")
    torch.testing.assert_close(after["bert.pooler.dense.weight"], before["pooler.dense.weight"])
    assert not torch.equal(
        after["bert.embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"]
    )
    task = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    torch.testing.assert_close(task.bert.pooler.dense.weight, before["pooler.dense.weight"])


@pytest.mark.parametrize("has_head", [True, False])
def test_an_adapter_trains_alone_and_is_saved_merged(sentence_encoder, tmp_path, has_head):
    model = runs.model() if has_head else str(sentence_encoder)
    given = {"model": model, "peft_config": LoraConfig(r=2)}
    prepared = prepare_pretraining(
        model, runs.config(tmp_path / "o"), runs.TARGET, processing_class=tiny.tokenizer(), peft_config=LoraConfig(r=2)
    )
    names = {name.split(".default")[0].split(".lora_")[0] for name in prepared.trainable.names}
    whole = {name for name in prepared.trainable.names if "lora_" not in name}
    assert any("attention" in name for name in names)
    assert not any("embeddings" in name or "decoder" in name for name in names)
    assert bool(whole) is not has_head  # a new head is trained in full
    given["model"] = runs.model() if has_head else str(sentence_encoder)
    runs.run(tmp_path / "run", given, max_steps=3)
    saved = AutoModelForMaskedLM.from_pretrained(tmp_path / "run")
    assert not (tmp_path / "run" / "adapter_config.json").exists()
    start = runs.model() if has_head else load_masked_language_model(str(sentence_encoder))[0]
    same = {n: torch.equal(p, dict(start.named_parameters())[n]) for n, p in saved.named_parameters()}
    assert same["bert.embeddings.word_embeddings.weight"]
    assert not same["bert.encoder.layer.0.attention.self.query.weight"]


def test_what_is_frozen_stays(tmp_path):
    model = runs.model()
    before = model.bert.embeddings.word_embeddings.weight.detach().clone()
    result = runs.run(tmp_path / "run", {"model": model}, max_steps=2, freeze="embeddings")
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, before)
    assert any("without embeddings" in note for note in result.notes)


def test_a_run_that_got_worse_says_so(tmp_path, capsys):
    model = AutoModelForMaskedLM.from_config(masked_models.CONFIGS["bert"]())  # knows nothing: words are alike to it
    given = {"model": model, "target": taught("w"), "validation": [{"text": f"w{i} w{i + 1}"} for i in range(20, 30)]}
    result = runs.run(tmp_path / "run", given, max_steps=40)
    assert result.got_worse
    assert "It got worse" in capsys.readouterr().out
    assert "Perplexity on held-out texts is higher than before" in (tmp_path / "run" / "README.md").read_text()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["got_worse"] is True


@pytest.mark.parametrize(("held_out", "rows"), [(3, "the 3 held-out rows"), (0, "a batch of rows")])
def test_a_model_that_predicts_no_numbers_is_not_saved(tmp_path, held_out, rows):
    with pytest.raises(FloatingPointError, match=f"loss of {rows} is nan after training.*not saved.*Lower"):
        runs.run(tmp_path / "run", learning_rate=1e30, max_steps=2, held_out=held_out)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_word_of_each_held_out_row_is_masked_where_chance_masks_none(tmp_path):
    rows = {"text": [f"w{i}" for i in range(40)]}
    result = runs.run(tmp_path / "run", {"target": rows}, max_steps=1, per_device_train_batch_size=1)
    assert result.held_out_rows == 2
    assert result.perplexity_before > 20  # of 64 tokens, by an untrained model; 1 where nothing is masked


def test_the_sentence_anchor_keeps_the_means(tmp_path):
    def moved(weight: float) -> float:
        model, start = runs.model(), runs.model()
        runs.run(tmp_path / f"{weight}", {"model": model}, max_steps=20, sentence_anchor=weight)
        batch = tiny.tokenizer()(["w1 w2 w3", "w4 w5 w6"], return_tensors="pt")
        with torch.no_grad():
            means = [m.eval().bert(**batch)[0].mean(1) for m in (model, start)]
        return float((1 - torch.cosine_similarity(*means)).mean())

    assert moved(20.0) < 0.5 * moved(0.0)


def test_labels_are_never_read(tmp_path):
    plain = [{"text": f"w1 w2 w{i}"} for i in range(20)]
    weights = []
    for name, rows in (("a", [{**row, "label": "x"} for row in plain]), ("b", plain)):
        runs.run(tmp_path / name, {"target": rows}, max_steps=3)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=0, atol=0)


def test_both_domains_and_biased_masking(tmp_path):
    target = [{"text": f"w39 w1 w{i}"} for i in range(30)]
    source = {"news": [{"text": f"w38 w1 w{i}"} for i in range(30)]}
    prepared = prepare_pretraining(
        runs.model(),
        runs.config(tmp_path / "o", target_word_bias=1.0, held_out=0),
        target,
        source,
        processing_class=tiny.tokenizer(),
    )
    assert prepared.domain_names == ("target", "news")
    assert len(prepared.train) == 60
    rate = prepared.collator.rates
    ids = tiny.tokenizer().convert_tokens_to_ids(["w39", "w38", "w1"])
    chances = rate(ids, [0, 1, 2])
    assert chances[0] > 0.3 > chances[2] > chances[1]
    assert runs.run(tmp_path / "run", {"target": target, "source": source}, target_word_bias=0.5).steps == 6


def test_lists_of_words_and_second_texts_are_texts(tmp_path):
    def rows(data, **settings):
        config = runs.config(tmp_path / "o", held_out=0, **settings)
        prepared = prepare_pretraining(runs.model(), config, data, processing_class=tiny.tokenizer())
        return [prepared.train[i] for i in range(len(prepared.train))]

    tagged = [{"tokens": ["w1x", "w2"], "label": [1, 0]}] * 3
    assert [row["words"] for row in rows(tagged)] == [[-1, 0, 0, 1, -1]] * 3
    pairs = [{"text": f"w{i}", "question": f"w{i + 1} w{i + 2}"} for i in range(3)]
    assert sorted(row["length"] for row in rows(pairs, text_pair_column="question")) == [3, 3, 3, 4, 4, 4]


@pytest.mark.parametrize("stream", [False, True])
def test_no_held_out_text_is_trained_on_as_a_second_text(tmp_path, monkeypatch, stream):
    measured = []
    monkeypatch.setattr(prepared_texts, "held_out_batches", lambda rows, *_: measured.extend(rows) or [])
    numbers = list(range(20)) * 2  # each question stands in two rows, the last one beside texts of its own
    target = Dataset.from_dict({"text": [f"w{i} w39" for i in range(40)], "question": [f"w{i} w38" for i in numbers]})
    config = runs.config(tmp_path / "o", held_out=5, text_pair_column="question")
    if stream:
        target = target.select(range(20)).to_iterable_dataset()
    prepared = prepare_pretraining(runs.model(), config, target, processing_class=tiny.tokenizer())
    held_out = {tuple(row["input_ids"]) for row in measured}
    rows = (row["pair"][0] if stream else row for row in itertools.islice(prepared.train, 200))
    trained = {tuple(row["input_ids"]) for row in rows}
    assert prepared.held_out_rows == len(held_out) == 5
    assert not held_out & trained


def test_second_texts_beside_lists_of_words_and_empty_ones(tmp_path):
    def prepared(question):
        rows = [{"tokens": ["w1", "w2"], "question": question}] * 3
        config = runs.config(tmp_path / "o", held_out=0, text_pair_column="question")
        train = prepare_pretraining(runs.model(), config, rows, processing_class=tiny.tokenizer()).train
        return [train[i] for i in range(len(train))]

    assert {tuple(row["words"]) for row in prepared("w3 w4 w5")} == {(-1, 0, 1, -1), (-1, 0, 1, 2, -1)}
    with pytest.raises(ValueError, match="target row 0: 'question' is empty"):
        prepared(" ")


def test_new_words_are_trained_and_saved(tmp_path, run_elsewhere):
    target = [{"text": f"w1x w2x w1x w{i}"} for i in range(30)]
    result = runs.run(tmp_path / "run", {"target": target}, max_steps=4, new_words=5)
    assert any("2 words added to the vocabulary" in note for note in result.notes)
    saved = AutoModelForMaskedLM.from_pretrained(tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert tokenizer.tokenize("w1x w2x w3x") == ["w1x", "w2x", "w3", "##x"]
    assert tokenizer.convert_tokens_to_ids("w1x") < saved.get_input_embeddings().weight.shape[0]
    assert run_elsewhere(ELSEWHERE, tmp_path / "run").split()[1] == "BertForMaskedLM"


def test_long_texts_are_cut_and_nothing_is_lost(tmp_path):
    words = [f"w{i % 40}" for i in range(100)]
    prepared = prepare_pretraining(
        runs.model(),
        runs.config(tmp_path / "o", held_out=0, max_length=22),
        [{"text": " ".join(words)}] * 2,
        processing_class=tiny.tokenizer(),
    )
    rows = [prepared.train[i] for i in range(len(prepared.train))]
    assert [row["length"] for row in rows] == [22] * 10
    tokens = [t for row in rows[:5] for t in row["input_ids"][1:-1]]
    assert tiny.tokenizer().convert_ids_to_tokens(tokens) == words


@pytest.mark.parametrize(
    ("case", "at"),
    [("packed", 5), ("denoising", 5), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_KILLS)],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, case, at):
    saving = {"save_strategy": "steps", "save_steps": 2}
    log = tmp_path / "log"
    assert forked(pretraining_worker.train, str(tmp_path / "whole"), case, saving, log=log) == 0, log.read_text()
    status = forked(pretraining_worker.train, str(tmp_path / "cut"), case, saving, at, log=log)
    assert status == KILLED, log.read_text()
    assert not (tmp_path / "cut" / "config.json").exists()
    again = saving | {"resume_from_checkpoint": True}
    assert forked(pretraining_worker.train, str(tmp_path / "cut"), case, again, log=log) == 0, log.read_text()
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, value in whole.items():
        assert torch.equal(value, cut[name]), name
    scores = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "cut")]
    assert scores[0] == scores[1]
    assert "missing keys" not in log.read_text()  # tied weights are saved under one name


@pytest.mark.parametrize(
    "case",
    ["packed", "denoising", *(pytest.param(c, marks=pytest.mark.slow) for c in ("padded", "contrast", "whole texts"))],
)
def test_two_processes_equal_one_on_the_union_batch(tmp_path, case):
    """Without dropout, which draws for each process by itself."""
    log = tmp_path / "log"
    shapes = {1: 8, 2: 4}
    for processes, rows in shapes.items():
        settings = {"per_device_train_batch_size": rows, "optim": "sgd", "learning_rate": 0.05, "no_dropout": True}
        folder = str(tmp_path / str(processes))
        status = forked(pretraining_worker.train, folder, case, settings, processes=processes, log=log)
        assert status == 0, log.read_text()
    one, two = (load_file(tmp_path / str(processes) / "model.safetensors") for processes in shapes)
    start = dict(pretraining_worker.model_of(pretraining_worker.CASES[case]).named_parameters())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)
    assert max((one[n] - p).abs().max() for n, p in start.items() if n in one) > 1e-3
    scores = [json.loads((tmp_path / str(processes) / "results.json").read_text()) for processes in shapes]
    measured = [key for key in scores[0] if key.endswith("_before")]
    assert measured
    for key in measured:
        assert scores[0][key] == pytest.approx(scores[1][key], rel=1e-4, abs=1e-6), key


def test_accumulation_is_one_larger_batch(tmp_path):
    weights = []
    for name, rows, steps in (("one", 8, 1), ("two", 2, 4)):
        settings = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps, "optim": "sgd"}
        runs.run(tmp_path / name, {"model": quiet_model()}, **settings)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=0, atol=1e-5)


def quiet_model():
    """A model without dropout."""
    return pretraining_worker.without_dropout(masked_models.masked_model())


def test_an_output_folder_in_use_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"already holds a run \(config.json\)"):
        runs.run(folder)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("_")) == ["config.json"]


def test_evaluation_while_training_and_the_best_model(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    result = runs.run(tmp_path / "run", **settings, load_best_model_at_end=True, save_total_limit=1)
    assert result.perplexity_after <= result.perplexity_before
    assert np.isfinite(result.perplexity_after)
