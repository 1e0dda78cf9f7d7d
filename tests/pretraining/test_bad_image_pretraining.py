"""What pre-training on images refuses, before anything is trained or written, with a message that says what to do."""

from __future__ import annotations

from dataclasses import fields

import masked_images
import pictures
import pretraining_runs as runs
import pytest
from bad_image_pretraining import BAD_IMAGE_SETTINGS, BAD_IMAGES, BAD_PAINTERS, BAD_TEXT_SETTINGS, masked_autoencoder
from transformers import TrainingArguments

from hftransfer import PretrainArguments, PretrainingConfig, pretrain
from hftransfer.pretraining.pretraining_kind import IMAGE_SETTINGS, SHARED_SETTINGS

CASES = BAD_IMAGES | BAD_PAINTERS | BAD_IMAGE_SETTINGS
TEXT_SETTINGS = (
    *("mask_probability", "mask_hidden_share", "mask_random_share", "target_word_bias"),
    *(
        "sentence_anchor",
        "sentence_contrast",
        "contrast_temperature",
        "text_column",
        "text_pair_column",
        "tokens_column",
    ),
    *("max_length", "new_words", "packing", "pack_length"),
)


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_refused(tmp_path, given, error, culprit, remedy):
    folder = tmp_path / "run"
    usual = {"model": masked_images.painter, "target": masked_images.TARGET, "processing_class": pictures.processor}
    chosen = {k: v() if callable(v) and k in usual else v for k, v in (usual | given).items()}
    settings = chosen.pop("settings", {})
    with pytest.raises(error) as found:
        pretrain(chosen.pop("model"), args=runs.config(folder, **settings), **chosen)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not folder.exists()


@pytest.mark.parametrize(("settings", "culprit", "remedy"), BAD_TEXT_SETTINGS.values(), ids=BAD_TEXT_SETTINGS.keys())
def test_settings_of_images_are_refused_for_texts(tmp_path, settings, culprit, remedy):
    with pytest.raises(ValueError, match=remedy) as found:
        runs.run(tmp_path / "run", **settings)
    assert culprit in str(found.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "family", "words"),
    [
        (pictures.resnet, "ResNet", r"Name a model of one of DeiT, FocalNet, Swin, Swinv2, ViT \(with --model\)"),
        (masked_autoencoder, "ViTMAE", "no class for image classification to start from"),
    ],
)
def test_a_family_without_masked_images_by_its_folder(tmp_path, make, family, words):
    make().save_pretrained(tmp_path / "model")
    pictures.processor().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=f"is a {family} model, for which .*{words}"):
        masked_images.run(tmp_path / "run", {"model": str(tmp_path / "model"), "processing_class": None})
    assert not (tmp_path / "run").exists()


def test_every_setting_is_of_texts_of_images_or_of_both():
    own = {f.name for f in fields(PretrainingConfig)} - {f.name for f in fields(TrainingArguments)}
    assert set(IMAGE_SETTINGS) | set(SHARED_SETTINGS) <= own
    assert set(TEXT_SETTINGS) <= own - set(IMAGE_SETTINGS) - set(SHARED_SETTINGS)


def test_a_pool_of_images_is_refused(tmp_path):
    folder = pictures.write_folder(tmp_path / "target", {"": 6}, labelled=False)
    pool = pictures.write_folder(tmp_path / "pool", {"": 6}, seed=1, labelled=False)
    options = PretrainArguments(target=folder, pool=pool, pool_rows=2)
    with pytest.raises(ValueError, match=r"--pool .* holds images.*as a --source"):
        options.load_rows(runs.config(tmp_path / "run"))
