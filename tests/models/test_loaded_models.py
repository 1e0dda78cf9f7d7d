"""What is loaded: only the head is new, weights are numbers, a tokenizer fits, and no code is pointed to."""

from __future__ import annotations

import json
import logging
import shutil

import bad_cases
import bad_models
import families
import pictures
import pytest
import tiny
import torch
from bad_models import FOLDERS, OBJECTS, config, good, with_nan, without
from families import FAMILIES, SEQUENCE, SHARED, TOKEN, VISION
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedImageModeling,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoTokenizer,
    BertForMaskedLM,
)

from hftransfer import load_model
from hftransfer.models.pretrained import load_image_processor, load_tokenizer
from hftransfer.models.remote_code import drop_remote_code
from hftransfer.models.weight_checks import check_finite

ADAPTER_FILE = "adapter_model.safetensors"
LORA = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
MAP = {"AutoModelForSequenceClassification": "modeling_x.X"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return good(tmp_path_factory.mktemp("models") / "good")


def spoilt(folder, tmp_path, *spoils):
    """A copy of a good folder, spoilt."""
    copied = tmp_path / "model"
    shutil.copytree(folder, copied)
    for spoil in spoils:
        spoil(copied)
    return str(copied)


@pytest.mark.parametrize(("spoil", "error", "culprit", "remedy"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_spoilt_folder_is_refused_before_anything_is_trained(folder, tmp_path, capfd, spoil, error, culprit, remedy):
    name = spoilt(folder, tmp_path, spoil)
    with pytest.raises(error) as found:
        bad_cases.trainer(tmp_path / "run", model=name, processing_class=None)
    message = str(found.value)
    assert culprit in message
    assert remedy in message
    assert name in message
    assert "\n" not in message
    assert len(message) < 700
    assert not (tmp_path / "run").exists()
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("given", "error", "culprit", "remedy"), OBJECTS.values(), ids=OBJECTS.keys())
def test_what_does_not_fit_a_model_is_refused(folder, tmp_path, given, error, culprit, remedy):
    given = {"model": str(folder)} | given if "model_kwargs" in given else given
    with pytest.raises(error) as found:
        bad_cases.trainer(tmp_path / "run", **given)
    assert culprit in str(found.value)
    assert remedy in str(found.value)
    assert not (tmp_path / "run").exists()


# ---- only the head may be new, and may be so in every family

OF_TEXT = (AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForCausalLM)
# What a checkpoint of another task lacks, by module: the head, and what BERT and ALBERT have inside their backbone.
HEADS = {
    "bert": {"classifier", "bert.pooler.dense"},
    "albert": {"classifier", "albert.pooler"},
    "distilbert": {"classifier", "pre_classifier"},
    "roberta": {"classifier.dense", "classifier.out_proj"},
    "xlm-roberta": {"classifier.dense", "classifier.out_proj"},
    "electra": {"classifier.dense", "classifier.out_proj"},
    "mpnet": {"classifier.dense", "classifier.out_proj"},
    "deberta-v2": {"classifier", "pooler.dense"},
    "modernbert": {"classifier", "head.dense", "head.norm"},
    "llama": {"score"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_of_other_tasks_get_a_new_head(family, tmp_path):
    settings = AutoConfig.for_model(family, **SHARED | FAMILIES[family])
    seen = 0
    for number, cls in enumerate(OF_TEXT):
        try:
            made = cls.from_config(settings)
        except ValueError:  # no such task in this family
            continue
        made.save_pretrained(tmp_path / str(number))
        loaded = load_model(str(tmp_path / str(number)), SEQUENCE, tiny.LABELS)
        modules = {key.rpartition(".")[0] for key in loaded.fresh_weights}
        assert modules <= HEADS[family]
        assert loaded.fresh_weights
        load_model(str(tmp_path / str(number)), TOKEN, tiny.TAGS)
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize("family", VISION)
def test_checkpoints_of_other_tasks_on_images_get_a_new_head(family, tmp_path):
    settings = AutoConfig.for_model(family, **VISION[family])
    settings.id2label = dict(enumerate("abc"))
    for number, cls in enumerate((AutoModel, AutoModelForMaskedImageModeling)):
        try:
            made = cls.from_config(settings)
        except ValueError:
            continue
        made.save_pretrained(tmp_path / str(number))
        loaded = load_model(str(tmp_path / str(number)), SEQUENCE, ("x", "y"), modality="image")
        assert loaded.fresh_weights
        assert all(key.startswith("classifier") for key in loaded.fresh_weights)


@pytest.mark.parametrize("family", ["roberta", "vit", "swin", "resnet", "modernbert", "convnext"])
def test_a_missing_norm_or_stem_is_no_head(family, tmp_path):
    """What stands before or behind the layers and was pretrained is not drawn anew in silence."""
    spoil = {
        "roberta": "embeddings.LayerNorm",
        "vit": "vit.layernorm",
        "swin": "swin.layernorm",
        "resnet": "resnet.embedder",
        "modernbert": "final_norm",
        "convnext": "convnext.layernorm",
    }[family]
    model = families.build(family) if family in FAMILIES else families.build_vision(family)
    model.save_pretrained(tmp_path)
    without(spoil)(tmp_path)
    modality = "text" if family in FAMILIES else "image"
    with pytest.raises(ValueError, match=f"only the head of a model may be new.*{spoil}"):
        load_model(str(tmp_path), SEQUENCE, tiny.LABELS, modality=modality)


def test_what_is_new_is_one_calm_line(folder, tmp_path, caplog, capfd):
    BertForMaskedLM(tiny.bert().config).save_pretrained(tmp_path / "mlm")
    with caplog.at_level(logging.WARNING):
        load_model(str(tmp_path / "mlm"), SEQUENCE, tiny.LABELS)
        load_model(str(folder), SEQUENCE, tiny.LABELS)
        load_model(str(folder), SEQUENCE, ("a", "b"))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("hftransfer")]
    assert ours == [
        f"{tmp_path / 'mlm'}: a new head, trained from scratch: bert.pooler.dense, classifier.",
        f"{folder}: a new head, trained from scratch: classifier.",
    ]
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


def test_layers_may_be_dropped_on_purpose(folder, caplog):
    with caplog.at_level(logging.WARNING):
        model = load_model(str(folder), SEQUENCE, tiny.LABELS, num_hidden_layers=1)
    assert len(model.bert.encoder.layer) == 1
    assert "the checkpoint has 2 layers, and its config says 1, as model_kwargs ask" in caplog.text


# ---- numbers


def test_weights_that_are_no_numbers_are_named(tmp_path):
    check_finite(tiny.bert(), "it")
    large = tiny.bert().half()
    with torch.no_grad():
        large.bert.embeddings.word_embeddings.weight.fill_(60_000)  # finite, and its sum in half precision is not
    check_finite(large, "it")
    with pytest.raises(ValueError, match="'bert.pooler.dense.bias' holds 1 values of 32 that are NaN"):
        check_finite(with_nan("bert.pooler.dense.bias"), "it")
    wrapped = get_peft_model(with_nan("bert.pooler.dense.bias"), LoraConfig(target_modules="all-linear"))
    with pytest.raises(ValueError, match="pooler"):
        check_finite(wrapped, "it")
    images = pictures.resnet()
    next(b for n, b in images.named_buffers() if n.endswith("running_var"))[0] = float("inf")
    with pytest.raises(ValueError, match="running_var' holds 1 values"):
        check_finite(images, "it")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (bad_models.value(LORA, float("nan")), ValueError, r"lora_A.*holds 1 values of .* NaN or infinite"),
        (bad_models.files(ADAPTER_FILE), FileNotFoundError, "no weights .adapter_model.safetensors.*Copy them"),
        (lambda f: (f / ADAPTER_FILE).rename(f / "adapter_model.bin"), ValueError, "a pickle.*never loaded.*Convert"),
        (bad_models.files(ADAPTER_FILE, content=bad_models.POINTER), FileNotFoundError, "LFS pointer.*git lfs pull"),
    ],
    ids=["not a number", "no weights", "a pickle", "a pointer"],
)
def test_an_adapters_folder_is_looked_at_as_well(folder, tmp_path, monkeypatch, spoil, error, message):
    base = tiny.bert()
    base.name_or_path = str(folder)
    base.config.name_or_path = str(folder)
    targets = ["query", "value"]
    get_peft_model(base, LoraConfig(target_modules=targets, modules_to_save=["classifier"])).save_pretrained(
        tmp_path / "adapter"
    )
    monkeypatch.setattr(bad_models, "WEIGHTS", ADAPTER_FILE)
    spoil(tmp_path / "adapter")
    with pytest.raises(error, match=message) as found:
        bad_cases.trainer(tmp_path / "run", model=str(tmp_path / "adapter"))
    assert str(tmp_path / "adapter") in str(found.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_training_in_half_precision_is_said(tmp_path, caplog, kind):
    with caplog.at_level(logging.WARNING):
        bad_cases.trainer(tmp_path, model=lambda: tiny.bert().to(kind), config={"objectives": None})
    said = "The model: its weights are" in caplog.text
    assert said == (kind != torch.float32)


# ---- the tokenizer


def test_a_folder_with_another_tokenizer_beside_is_taken(folder, tmp_path):
    name = spoilt(folder, tmp_path, lambda f: [file.unlink() for file in f.glob("tokenizer*")])
    assert bad_cases.trainer(tmp_path / "run", model=name).processing_class.vocab_size == 50
    given = bad_cases.trainer(tmp_path / "run", model=name, processing_class=str(folder))
    assert len(given.processing_class) == 50


def test_a_vocabulary_in_its_old_form_is_one(folder, tmp_path):
    """BERT's vocab.txt without a tokenizer.json."""
    (tmp_path / "old").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "old")
    words = sorted(tiny.tokenizer().get_vocab().items(), key=lambda item: item[1])
    (tmp_path / "old/vocab.txt").write_text("\n".join(word for word, _ in words))
    assert load_tokenizer(str(tmp_path / "old")).get_vocab() == tiny.tokenizer().get_vocab()


def test_tokens_that_no_text_has_may_be_beyond_the_embedding(tmp_path):
    def tokenizer():
        """As Gemma's, which has a token for images."""
        made = tiny.tokenizer()
        made.add_tokens([f"<{i}>" for i in range(20)], special_tokens=True)
        return made

    run = bad_cases.trainer(tmp_path / "run", processing_class=tokenizer)
    assert len(run.processing_class) > run.model.get_input_embeddings().num_embeddings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vocab_size": 500}, "has 50 tokens where the model's embedding has 500 rows"),
        ({"pad_token_id": 1}, "pads with id 0 where the model's config says 1"),
        ({}, None),
    ],
)
def test_doubts_about_a_tokenizer_are_said(tmp_path, caplog, settings, said):
    with caplog.at_level(logging.WARNING):
        bad_cases.trainer(tmp_path, model=lambda: tiny.bert(**settings))
    assert (said in caplog.text) if said else ("is it the model's own?" not in caplog.text)


# ---- code


def test_pointers_to_code_are_not_saved(folder, tmp_path, caplog):
    name = spoilt(folder, tmp_path, config(auto_map=MAP, custom_pipelines={"x": {"impl": "x.X"}}))
    file = tmp_path / "model/tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoTokenizer": ["x.X", None]}}))
    with caplog.at_level(logging.WARNING):
        run = bad_cases.trainer(tmp_path / "run", model=name, processing_class=None)
    run.save_model(str(tmp_path / "saved"))
    for saved in ("config.json", "tokenizer_config.json"):
        text = (tmp_path / "saved" / saved).read_text()
        assert "auto_map" not in text
        assert "custom_pipelines" not in text
    assert "points to code of its own (auto_map, custom_pipelines), which was not run" in caplog.text
    assert f"The tokenizer of {name!r} points to code of its own (auto_map)" in caplog.text


def test_pointers_of_objects_and_image_processors_go_too(tmp_path, caplog):
    model = tiny.bert()
    model.config.auto_map = MAP
    tokenizer = tiny.tokenizer()
    tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": ["x.X", None]}
    run = bad_cases.trainer(tmp_path / "run", model=lambda: model, processing_class=lambda: tokenizer)
    assert not hasattr(run.prepared.model.config, "auto_map")
    assert "auto_map" not in run.processing_class.init_kwargs
    pictures.processor().save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoImageProcessor": "x.X"}}))
    assert AutoImageProcessor.from_pretrained(tmp_path, backend="pil").auto_map
    load_image_processor(str(tmp_path)).save_pretrained(tmp_path / "again")
    assert "auto_map" not in (tmp_path / "again/preprocessor_config.json").read_text()


def test_pointers_of_a_trusted_model_stay(caplog):
    model = tiny.bert()
    model.config.auto_map = MAP
    drop_remote_code(model, "it", trusted=True)
    assert model.config.auto_map == MAP
    drop_remote_code(model, "it")
    assert not hasattr(model.config, "auto_map")
    assert len(caplog.records) == 1
    drop_remote_code(model, "it")
    assert len(caplog.records) == 1


def test_a_good_folder_is_as_it_was(folder, tmp_path):
    """Nothing of the above stands in the way of what is right."""
    run = bad_cases.trainer(tmp_path / "run", model=str(folder), processing_class=None)
    run.train()
    run.save_model(str(tmp_path / "saved"))
    assert len(AutoTokenizer.from_pretrained(tmp_path / "saved")) == 50
    assert load_model(str(tmp_path / "saved"), SEQUENCE, tiny.LABELS).fresh_weights == ()
