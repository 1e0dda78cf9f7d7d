"""Denoising: its value by hand, what the decoder shares and sees, which encoders have one, what is saved of it."""

from __future__ import annotations

import json

import masked_models
import numpy as np
import pretraining_runs as runs
import pytest
import tiny
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from hftransfer import prepare_pretraining
from hftransfer.data.pairing import DRAW
from hftransfer.data.word_deletion import WordDeletion
from hftransfer.pretraining.denoising_decoder import make_decoder
from hftransfer.pretraining.masking_collator import DELETION
from hftransfer.pretraining.pretraining_trainer import PretrainingTrainer
from hftransfer.pretraining.text_rows import WORDS

DENOISING = {"mask_probability": 0, "sentence_denoising": 1.0}
TOKENS = [5, 6, 7, 8]


def encoder(family: str = "bert"):
    return masked_models.masked_model(family).base_model


def prepared_run(folder, model=None, peft_config=None, **settings):
    args = runs.config(folder, **DENOISING | settings)
    given = {"target": runs.TARGET, "processing_class": tiny.tokenizer(), "peft_config": peft_config}
    return prepare_pretraining(encoder() if model is None else model, args, **given), args


def nats(logits: np.ndarray, token: int) -> float:
    return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[token])


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_loss_is_the_cross_entropy_of_the_whole_texts_given_the_vectors_of_their_remains(
    layers, packing, pooling, tmp_path
):
    settings = {"sentence_pooling": pooling, "packing": packing, "denoising_layers": layers, "deleted_share": 0.5}
    prepared, args = prepared_run(tmp_path, **settings)
    trainer = PretrainingTrainer(prepared, args)
    indices = next(iter(trainer.get_train_dataloader().batch_sampler))
    rows = prepared.train.__getitems__(indices)
    joint = prepared.joint.eval()
    output = joint(**prepared.collator(rows))
    found = []
    for row in rows:
        rng = np.random.default_rng((args.seed, row["domain"], *row[DRAW], DELETION))
        left = WordDeletion(0.5)(row["input_ids"], row[WORDS], rng)
        assert len(left) < len(row["input_ids"])
        with torch.no_grad():
            states = joint.model(input_ids=torch.tensor(left)[None])[0][0]
            vector = states[0] if pooling == "cls" else states.mean(0)
            decode = {
                "encoder_hidden_states": vector[None, None],
                "input_ids": torch.tensor(row["input_ids"][:-1])[None],
            }
            logits = joint.denoising.decoder(**decode).logits[0].double().numpy()
        found += [nats(one, token) for one, token in zip(logits, row["input_ids"][1:], strict=True)]
    assert output.loss.item() == pytest.approx(np.mean(found), rel=1e-4)
    assert output.losses.tolist() == pytest.approx([output.loss.item()])


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_a_tied_decoder_has_the_encoders_weights_but_for_its_view_of_the_vector(family):
    for model in (encoder(family), masked_models.masked_model(family)):
        decoder = make_decoder(model, 0, 64, 0, TOKENS)
        own = {id(p) for p in model.parameters()}
        new = [name for name, p in decoder.named_parameters() if id(p) not in own]
        of_head = [name for name in new if "crossattention" not in name]
        assert "layer.1.crossattention.self.value.weight" in " ".join(new)
        assert not [name for name in of_head if ".layer." in name or "embeddings" in name]
        assert bool(of_head) is (model is model.base_model)  # a head of masked words is shared
        assert decoder.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "albert", "mpnet", "deberta-v2"])
def test_other_families_are_refused_by_name_and_take_a_decoder_of_its_own(family):
    model = encoder(family)
    with pytest.raises(ValueError, match=rf"like a {type(model).__name__}. Set denoising_layers to 1"):
        make_decoder(model, 0, 64, 0, TOKENS)
    decoder = make_decoder(model, 1, 64, 0, TOKENS)
    shares = {id(p) for p in model.parameters()} & {id(p) for p in decoder.parameters()}
    assert bool(shares) is (family != "albert")  # whose word embeddings are narrower


def test_a_text_is_learnt_through_its_vector_and_the_decoder_stays_behind(tmp_path):
    folder = tmp_path / "run"
    saving = {"save_strategy": "steps", "save_steps": 20, "logging_steps": 10}
    texts = {"target": runs.TARGET, "model": encoder()}
    result = runs.run(folder, texts, max_steps=20, held_out=0.2, learning_rate=1e-2, **DENOISING | saving)
    assert result.scores_after["sentence_denoising"] < 0.9 * result.scores_before["sentence_denoising"]
    assert json.loads((folder / "results.json").read_text())["sentence_denoising_after"] == pytest.approx(
        result.scores_after["sentence_denoising"]
    )
    assert any("tied to the encoder" in note for note in result.notes)
    assert load_file(folder / "model.safetensors").keys() == encoder().state_dict().keys()
    beside = load_file(folder / "checkpoint-20" / "_adaptation_state.safetensors")
    assert beside
    assert all("crossattention" in name or "cls.predictions" in name for name in beside)
    logged = json.loads((folder / "checkpoint-20" / "trainer_state.json").read_text())["log_history"]
    assert any("sentence_denoising_loss" in entry for entry in logged)


def test_all_losses_are_summed_with_their_weights_and_each_is_logged(tmp_path):
    weights = {"sentence_contrast": 2.0, "sentence_denoising": 3.0, "sentence_anchor": 0.5, "mask_probability": 0.15}
    prepared, args = prepared_run(tmp_path, masked_models.masked_model(), **weights)
    batch = next(iter(PretrainingTrainer(prepared, args).get_train_dataloader()))
    joint = prepared.joint.train()
    assert joint.loss_names == ["masked_words", "sentence_anchor", "sentence_contrast", "sentence_denoising"]
    output = joint(**batch)
    words, anchor, contrast, denoising = output.losses.tolist()
    assert output.loss.item() == pytest.approx(words + 0.5 * anchor + 2 * contrast + 3 * denoising, rel=1e-5)
    output.loss.backward()
    assert [n for n, p in joint.named_parameters() if p.requires_grad and p.grad is None] == []
    evaluated = joint.eval()(**batch)
    assert len(evaluated.losses) == len(joint.loss_names_in_evaluation) == 3


def test_under_an_adapter_the_decoder_has_the_weights_as_they_were(tmp_path):
    prepared, args = prepared_run(tmp_path, peft_config=LoraConfig(r=2))
    batch = next(iter(PretrainingTrainer(prepared, args).get_train_dataloader()))
    prepared.joint.train()(**batch).loss.backward()
    moved = {name for name, p in prepared.joint.named_parameters() if p.grad is not None}
    assert any("lora_" in name for name in moved)
    assert all("lora_" in name or name.startswith("denoising.") for name in moved)
