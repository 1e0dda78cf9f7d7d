"""Runs of pre-training on images: what moves, what is saved, how it goes on, and that processes agree."""

from __future__ import annotations

import json

import masked_images
import numpy as np
import pictures
import pretraining_runs as runs
import pretraining_worker
import pytest
import torch
from peft import LoraConfig
from processes import KILLED, forked
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    DeiTForImageClassification,
    FocalNetForImageClassification,
    SwinForImageClassification,
    Swinv2ForImageClassification,
    ViTForImageClassification,
)

from hftransfer import AdaptationConfig, AdaptationTrainer, prepare_pretraining
from hftransfer.data.pairing import DRAW
from hftransfer.pretraining.masked_image_model import load_masked_image_model

ELSEWHERE = """
import sys
from transformers import AutoImageProcessor, AutoModelForImageClassification
model, info = AutoModelForImageClassification.from_pretrained(sys.argv[1], num_labels=3, output_loading_info=True)
print(type(model).__name__, sorted(info["missing_keys"]), sorted(info["mismatched_keys"]))
AutoImageProcessor.from_pretrained(sys.argv[1])
"""
CLASSIFIERS = {
    "vit": ViTForImageClassification,
    "deit": DeiTForImageClassification,
    "swin": SwinForImageClassification,
    "swinv2": Swinv2ForImageClassification,
    "focalnet": FocalNetForImageClassification,
}


def saved_classifier(folder, family: str):
    """A checkpoint without a decoder of pixels, whose config leaves encoder_stride out, and its image processor."""
    config = masked_images.config(family)
    torch.manual_seed(5)
    CLASSIFIERS[family](config).save_pretrained(folder)
    pictures.processor(config.image_size).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    model = masked_images.painter()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = masked_images.run(folder, {"model": model}, max_steps=60, held_out=0.2)
    return folder, result, before, model


def test_the_reconstruction_loss_falls_and_every_parameter_moves(trained):
    folder, result, before, model = trained
    assert result.reconstruction_loss_after < 0.8 * result.reconstruction_loss_before
    assert not result.got_worse
    assert (result.perplexity_before, result.held_out_rows, result.steps) == (None, 12, 60)
    scores = json.loads((folder / "results.json").read_text())
    assert scores["reconstruction_loss_after"] == pytest.approx(result.reconstruction_loss_after)
    assert not any("perplexity" in name for name in scores)
    assert [n for n, p in model.named_parameters() if torch.equal(p, before[n])] == []
    card = (folder / "README.md").read_text()
    assert f"| after | {result.reconstruction_loss_after:.4f} |" in card
    assert "masked-image-modeling" in card
    facts = json.loads((folder / "config.json").read_text())["hftransfer"]["pretraining"]
    assert facts["images"] == ["target"]
    assert facts["image_mask_unit"] == 4


def test_the_loss_before_is_that_of_the_model_by_itself(tmp_path):
    """By transformers' own loss on the same images and masks."""
    model, args = masked_images.painter(), runs.config(tmp_path / "o", held_out=0.2)
    prepared = prepare_pretraining(model, args, masked_images.TARGET, processing_class=pictures.processor())
    errors = []
    with torch.no_grad():
        for batch in prepared.held_out:
            outputs = model.eval()(batch["pixel_values"], bool_masked_pos=batch["masked"])
            errors += [float(outputs.loss)] * batch["rows"]  # all rows have as many masked patches
    result = masked_images.run(tmp_path / "run", {"model": model}, max_steps=1, held_out=0.2)
    assert result.reconstruction_loss_before == pytest.approx(np.mean(errors), rel=1e-4)


def test_what_is_saved_starts_a_classifier_where_hftransfer_is_not(trained, run_elsewhere):
    folder, _, _, model = trained
    assert (
        run_elsewhere(ELSEWHERE, folder).strip()
        == "ViTForImageClassification ['classifier.bias', 'classifier.weight'] []"
    )
    saved = AutoModelForMaskedImageModeling.from_pretrained(folder)
    classifier = AutoModelForImageClassification.from_pretrained(folder)
    for name, value in saved.vit.state_dict().items():
        assert torch.equal(value, model.vit.state_dict()[name])
        if not name.endswith("mask_token"):
            assert torch.equal(value, classifier.vit.state_dict()[name])


def test_a_task_starts_from_it(trained, tmp_path):
    folder, *_ = trained
    args = AdaptationConfig(str(tmp_path / "task"), max_steps=1, use_cpu=True, report_to="none", save_strategy="no")
    trainer = AdaptationTrainer(str(folder), args, masked_images.SOURCE)
    weight = AutoModelForMaskedImageModeling.from_pretrained(folder).vit.layers[0].attention.q_proj.weight
    torch.testing.assert_close(trainer.prepared.model.vit.layers[0].attention.q_proj.weight, weight)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_classifier_of_every_family_gets_a_decoder_that_fits(tmp_path, caplog, family):
    start = saved_classifier(tmp_path / "start", family)
    result = masked_images.run(
        tmp_path / "run", {"model": start, "processing_class": None}, max_steps=1, held_out=4, learning_rate=1e-3
    )
    assert "has no decoder for masked images; what is new is trained from scratch: decoder.0.bias" in caplog.text
    assert "mask_token" in caplog.text
    saved = AutoModelForMaskedImageModeling.from_pretrained(tmp_path / "run")
    assert saved.config.encoder_stride == (4 if family in ("vit", "deit") else 8)
    assert np.isfinite(result.reconstruction_loss_after)
    _, info = AutoModelForImageClassification.from_pretrained(tmp_path / "run", output_loading_info=True)
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"classifier"}
    assert AutoImageProcessor.from_pretrained(tmp_path / "run").size["height"] == saved.config.image_size


def test_the_backbone_of_a_checkpoint_is_taken_as_it_is_with_its_pooler(tmp_path):
    start = pictures.vit(seed=3, patch_size=4)
    start.save_pretrained(tmp_path / "start")
    loaded, _ = load_masked_image_model(str(tmp_path / "start"), pictures.processor())
    assert loaded.fresh_weights == ("decoder.0.bias", "decoder.0.weight", "vit.embeddings.mask_token")
    state = loaded.vit.state_dict()
    for name, value in start.state_dict().items():
        assert torch.equal(state[name], value), name
    masked_images.run(tmp_path / "run", {"model": str(tmp_path / "start")}, max_steps=2)
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert torch.equal(after["vit.pooler.dense.weight"], start.pooler.dense.weight)
    assert not torch.equal(after["vit.embeddings.cls_token"], start.embeddings.cls_token)
    assert not torch.equal(after["vit.embeddings.mask_token"], torch.zeros(1, 1, 24))


@pytest.mark.parametrize("has_decoder", [True, False])
def test_an_adapter_trains_alone_and_is_saved_merged(tmp_path, has_decoder):
    start = saved_classifier(tmp_path / "start", "vit")
    model = masked_images.painter() if has_decoder else start
    torch.manual_seed(42)  # the run's, by which a new decoder is drawn
    loaded, _ = load_masked_image_model(model, pictures.processor())
    before = {name: p.detach().clone() for name, p in loaded.named_parameters()}
    result = masked_images.run(tmp_path / "run", {"model": model, "peft_config": LoraConfig(r=2)}, max_steps=3)
    assert any("mask_token is new and stays 0" in note for note in result.notes) is not has_decoder
    assert not (tmp_path / "run" / "adapter_config.json").exists()
    saved = AutoModelForMaskedImageModeling.from_pretrained(tmp_path / "run")
    same = {name: torch.equal(p, before[name]) for name, p in saved.named_parameters()}
    assert same["vit.embeddings.cls_token"]
    assert not same["vit.layers.0.attention.q_proj.weight"]
    assert same["vit.layers.0.layernorm_before.weight"]
    assert has_decoder or not same["decoder.0.weight"]


def test_what_is_frozen_stays(tmp_path):
    model = masked_images.painter()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = masked_images.run(tmp_path / "run", {"model": model}, max_steps=2, freeze="first_1")
    still = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
    assert {n for n in before if n.startswith(("vit.embeddings", "vit.layers.0"))} == still
    assert any("without first_1" in note for note in result.notes)


def test_a_run_that_got_worse_says_so(tmp_path, capsys):
    result = masked_images.run(tmp_path / "run", max_steps=3, learning_rate=1.0, warmup_steps=0)
    assert result.got_worse
    assert "It got worse: the model paints the held-out images less well" in capsys.readouterr().out
    assert "higher than before" in (tmp_path / "run" / "README.md").read_text()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["got_worse"] is True


def test_masks_and_crops_are_of_the_row_and_its_pass_alone(tmp_path):
    args = runs.config(tmp_path / "o", held_out=0, augment_flip=True)
    prepared = prepare_pretraining(
        masked_images.painter(), args, masked_images.TARGET, processing_class=pictures.processor()
    )
    rows = [prepared.train[i] for i in (3, 7)]
    both, alone = prepared.collator(rows), prepared.collator(rows[1:])
    for name in ("pixel_values", "masked"):
        assert torch.equal(both[name][1:], alone[name])
    later = prepared.train[7 + len(prepared.train)]
    assert later[DRAW] == (7, 1)
    again = prepared.collator([later])
    assert not torch.equal(again["masked"], alone["masked"])
    assert not torch.equal(again["pixel_values"], alone["pixel_values"])


def test_held_out_images_are_whole_and_masked_once(tmp_path):
    prepared = prepare_pretraining(
        masked_images.painter(),
        runs.config(tmp_path / "o", held_out=10, per_device_eval_batch_size=4),
        masked_images.TARGET,
        processing_class=pictures.processor(),
    )
    assert [batch["rows"] for batch in prepared.held_out] == [4, 4, 2]
    first, again = prepared.held_out[0], next(iter(prepared.held_out))
    assert all(torch.equal(first[name], again[name]) for name in ("pixel_values", "masked"))
    assert [batch["rows"] for batch in prepared.held_out[1::2]] == [4]
    shown = {tuple(pixels.flatten().tolist()) for batch in prepared.held_out for pixels in batch["pixel_values"]}
    whole = pictures.processor()(images=list(masked_images.TARGET["image"]), return_tensors="np")["pixel_values"]
    assert shown <= {tuple(np.asarray(pixels, dtype=np.float32).ravel().tolist()) for pixels in whole}
    assert len(prepared.train) == 50


def test_labels_are_never_read(tmp_path):
    weights = []
    for name, labelled in (("a", True), ("b", False)):
        masked_images.run(tmp_path / name, {"target": pictures.pictures(20, labelled=labelled)}, max_steps=2)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key])


def test_both_domains_arrays_and_a_stream(tmp_path):
    arrays = [{"image": np.asarray(row["image"])} for row in masked_images.TARGET]
    given = {"target": arrays, "source": {"scans": masked_images.SOURCE}}
    assert masked_images.run(tmp_path / "both", given, max_steps=2).held_out_rows == 3
    facts = json.loads((tmp_path / "both" / "config.json").read_text())["hftransfer"]["pretraining"]
    assert facts["images"] == ["target", "scans"]
    stream = {"target": masked_images.TARGET.to_iterable_dataset()}
    assert masked_images.run(tmp_path / "stream", stream, max_steps=2, held_out=4).held_out_rows == 4


def test_rows_with_texts_and_images_are_what_the_model_reads(tmp_path):
    both = masked_images.TARGET.add_column("text", [f"w1 w{i}" for i in range(60)])
    assert masked_images.run(tmp_path / "images", {"target": both}, max_steps=1).perplexity_before is None
    assert runs.run(tmp_path / "texts", {"target": both}, max_steps=1).reconstruction_loss_before is None
    with pytest.raises(ValueError, match="no masked-language head"):  # text_column says what is meant
        masked_images.run(tmp_path / "o", {"target": both}, text_column="text")


@pytest.mark.parametrize(
    ("case", "at"),
    [
        ("images", 5),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("image adapter", 9), ("image stream", 5)]),
    ],
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


def test_two_processes_equal_one_on_the_union_batch(tmp_path):
    log, shapes = tmp_path / "log", {1: 8, 2: 4}
    for processes, rows in shapes.items():
        settings = {"per_device_train_batch_size": rows, "optim": "sgd", "learning_rate": 0.5, "held_out": 9}
        folder = str(tmp_path / str(processes))
        status = forked(pretraining_worker.train, folder, "images", settings, processes=processes, log=log)
        assert status == 0, log.read_text()
    folders = [tmp_path / str(processes) for processes in shapes]
    one, two = (AutoModelForMaskedImageModeling.from_pretrained(folder).state_dict() for folder in folders)
    start = dict(masked_images.painter().named_parameters())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)
    assert max((one[n] - p).abs().max() for n, p in start.items()) > 1e-3
    scores = [json.loads((tmp_path / str(processes) / "results.json").read_text()) for processes in shapes]
    for when in ("before", "after"):
        found = [score[f"reconstruction_loss_{when}"] for score in scores]
        assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_accumulation_is_one_larger_batch(tmp_path):
    weights = []
    for name, rows, steps in (("one", 8, 1), ("two", 2, 4)):
        settings = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps, "optim": "sgd"}
        masked_images.run(tmp_path / name, max_steps=3, **settings)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=0, atol=1e-5)


def test_evaluation_while_training_and_the_best_model(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    best = {"metric_for_best_model": "reconstruction_loss", "load_best_model_at_end": True, "save_total_limit": 1}
    result = masked_images.run(tmp_path / "run", **settings, **best)
    assert result.reconstruction_loss_after <= result.reconstruction_loss_before
    state = json.loads(next((tmp_path / "run").glob("checkpoint-*/trainer_state.json")).read_text())
    logged = [entry["eval_reconstruction_loss"] for entry in state["log_history"] if "eval_loss" in entry]
    assert min(logged) == pytest.approx(result.reconstruction_loss_after, rel=1e-6)
