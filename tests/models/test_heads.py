"""Loading a backbone with a head for the labels, and checking the head of a model that comes loaded."""

from __future__ import annotations

import families
import pytest
import tiny
import torch
from families import SEQUENCE, TOKEN
from peft import LoraConfig, get_peft_model
from transformers import BertModel

from hftransfer import load_model
from hftransfer.models.pretrained import check_head, loaded_label_names
from hftransfer.models.tokenizer_checks import check_tokenizer

FOUR = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("task", "cls", "problem"),
    [
        (SEQUENCE, "BertForSequenceClassification", "single_label_classification"),
        (TOKEN, "BertForTokenClassification", None),
        ("multi-label-classification", "BertForSequenceClassification", "multi_label_classification"),
        ("regression", "BertForSequenceClassification", "regression"),
    ],
)
def test_a_checkpoint_gets_the_head_its_task_needs(task, cls, problem, model_folder):
    names = ("score",) if task == "regression" else FOUR
    model = load_model(model_folder, task, names)
    assert (type(model).__name__, model.config.problem_type) == (cls, problem)
    assert model.classifier.out_features == len(names)
    assert model.config.id2label == dict(enumerate(names))
    assert torch.equal(
        model.bert.embeddings.word_embeddings.weight, tiny.bert().bert.embeddings.word_embeddings.weight
    )


def test_a_head_that_fits_is_kept(model_folder):
    model = load_model(model_folder, SEQUENCE, ("x", "y", "z"))
    assert torch.equal(model.classifier.weight, tiny.bert().classifier.weight)
    assert loaded_label_names(model) == ("x", "y", "z")


@pytest.mark.parametrize("wrapped", [None, "SEQ_CLS", "plain"])
def test_a_loaded_models_head_is_checked_and_named(wrapped):
    model = tiny.bert(("LABEL_0", "LABEL_1", "LABEL_2"))
    assert loaded_label_names(model) is None
    if wrapped:
        model = get_peft_model(model, LoraConfig(task_type=None if wrapped == "plain" else wrapped))
    check_head(model, SEQUENCE, tiny.LABELS)
    assert loaded_label_names(model) == tiny.LABELS
    assert model.config.label2id == {"down": 0, "up": 1, "flat": 2}


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        (lambda: BertModel(tiny.bert().config), SEQUENCE, "BertModel has no head for seq.*AutoModelForSequenceClass"),
        (lambda: tiny.bert(tagging=True), SEQUENCE, "BertForTokenClassification has no head for sequence-class"),
        (tiny.bert, TOKEN, "BertForSequenceClassification has no head for token-.*AutoModelForTokenClassification"),
        (lambda: tiny.bert(FOUR), SEQUENCE, r"head has 4 outputs but the data has 3 labels \(down, up, flat\)"),
    ],
)
def test_heads_that_do_not_fit(model, task, message):
    with pytest.raises(ValueError, match=message):
        check_head(model(), task, tiny.LABELS)


def test_a_decoder_is_told_what_pads():
    """A tokenizer without a pad token pads with its end of sequence, and the model scores the token before it."""
    tokenizer, model = tiny.tokenizer(), families.build("llama", pad_token_id=None)
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    check_tokenizer(tokenizer, model)
    assert tokenizer.pad_token_id == model.config.pad_token_id == tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither a pad token nor an end-of-sequence token"):
        check_tokenizer(tokenizer, model)
