"""Texts and models that pre-training must refuse: what is given to a run, the error, the culprit that is named, the
remedy."""

from __future__ import annotations

from typing import Any

import masked_models
import tiny
from datasets import Dataset
from peft import LoraConfig
from transformers import BertModel, GPT2Config, GPT2LMHeadModel

TEXTS = [f"w1 w2 w{i}" for i in range(40)]
ROWS = Dataset.from_dict({"text": TEXTS})


def rows(first: Any, **columns: list) -> dict[str, list]:
    """Columns whose first text is another."""
    return {"text": [first, *TEXTS[1:]], **columns}


def without_mask_token():
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = None
    return tokenizer


def decoder():
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))


def encoder():
    return BertModel(masked_models.CONFIGS["bert"]())


def smaller_vocabulary():
    return masked_models.masked_model("bert").__class__(
        masked_models.CONFIGS["bert"]().__class__(**masked_models.SIZES | {"vocab_size": 20})
    )


PRETRAINING_TEXTS = {
    "no texts at all": ({"target": None}, ValueError, "There are no texts", "give a target, a source, or both"),
    "no rows": ({"target": ROWS.select([])}, ValueError, "target is empty", "it has no rows"),
    "an empty text": ({"target": rows("  ")}, ValueError, "'text' is empty", "Drop or fill such rows first"),
    "a missing text": ({"target": rows(None)}, ValueError, "'text' is None", "Drop or fill such rows first"),
    "numbers": ({"target": {"text": list(range(9))}}, ValueError, "'text' must be a string", "say which column"),
    "another column": (
        {"target": ROWS.rename_column("text", "texts")},
        ValueError,
        "target has neither a column 'text'",
        "Did you mean 'texts'?",
    ),
    "encoded rows": (
        {"target": Dataset.from_dict({"input_ids": [[1, 2]] * 9})},
        ValueError,
        "holds 'input_ids'",
        "Pass the text",
    ),
    "words that the tokenizer does not know": (
        {"target": {"text": ["abc def"] * 9}, "settings": {"held_out": 0}},
        ValueError,
        "leaves no word of any of its 9 rows",
        "Is the tokenizer the one that belongs to the model",
    ),
    "a file's name": (
        {"target": "medical.csv"},
        TypeError,
        "target must be a `datasets.Dataset`",
        "Read a file first",
    ),
    "a source that is called target": (
        {"source": {"target": ROWS}},
        ValueError,
        "A source is called 'target'",
        "another name",
    ),
    "copies alone": (
        {"target": {"text": ["w1 w2"] * 20}},
        ValueError,
        "only 0 of its 20 rows stand there once",
        "set it to 0",
    ),
    "one row": ({"target": {"text": ["w1 w2"]}}, ValueError, "leaves none to train on", "holds nothing out"),
    "a stream without an end": (
        {"target": ROWS.to_iterable_dataset(), "settings": {"max_steps": -1, "held_out": 0}},
        ValueError,
        "A stream has no end",
        "set max_steps",
    ),
    "a share of a stream": (
        {"target": ROWS.to_iterable_dataset()},
        ValueError,
        "whose length is not known",
        "a number of rows",
    ),
    "a stream that is held out to its end": (
        {"target": ROWS.to_iterable_dataset(), "settings": {"held_out": 40}},
        ValueError,
        "target is a stream of 40 row(s), of which held_out=40 leaves none",
        "Lower it",
    ),
    "a stream beside a data set": (
        {"target": ROWS.to_iterable_dataset(), "source": ROWS, "settings": {"held_out": 0}},
        ValueError,
        "is a stream and other rows are not",
        "or none",
    ),
    "counted words of a stream": (
        {
            "target": ROWS.to_iterable_dataset(),
            "source": ROWS.to_iterable_dataset(),
            "settings": {"held_out": 0, "target_word_bias": 1.0},
        },
        ValueError,
        "counts all words before training",
        "leave it out",
    ),
    "new words of a stream": (
        {"target": ROWS.to_iterable_dataset(), "settings": {"held_out": 0, "new_words": 9}},
        ValueError,
        "new_words=9 counts the words of whole texts",
        "Leave it out",
    ),
    "validation as a stream": (
        {"validation": ROWS.to_iterable_dataset()},
        ValueError,
        "validation is a stream",
        "Take some rows of it",
    ),
    "validation without text": (
        {"validation": Dataset.from_dict({"label": [1]})},
        ValueError,
        "held-out rows of target has neither",
        "say which it is",
    ),
}
PRETRAINING_MODELS = {
    "a tokenizer without a mask token": (
        {"processing_class": without_mask_token},
        ValueError,
        "has no mask token",
        "Name an encoder with a mask token",
    ),
    "a decoder": (
        {"model": decoder},
        ValueError,
        "This GPT2LMHeadModel has no masked-language head",
        "AutoModelForMask",
    ),
    "a classifier": (
        {"model": tiny.bert},
        ValueError,
        "This BertForSequenceClassification has no",
        "AutoModelForMasked",
    ),
    "an encoder without its name": (
        {"model": encoder},
        ValueError,
        "This BertModel has no masked-language head",
        "Pass the checkpoint's name",
    ),
    "no model": ({"model": 3}, TypeError, "model must be a Hub id, a folder or a loaded", "not int"),
    "a folder that is not there": (
        {"model": "./nowhere"},
        FileNotFoundError,
        "There is no folder './nowhere'",
        "Give an existing folder",
    ),
    "a model of no file without a tokenizer": (
        {"processing_class": None},
        ValueError,
        "processing_class is missing",
        "Pass the tokenizer that belongs to it",
    ),
    "another model's tokenizer": (
        {"model": smaller_vocabulary},
        ValueError,
        "The tokenizer makes ids up to",
        "Pass the model's own tokenizer",
    ),
    "options of loading for a loaded model": (
        {"model_kwargs": {"dtype": "float32"}},
        ValueError,
        "model_kwargs (dtype) says how a model is loaded",
        "Leave it out",
    ),
    "an adapter on the embeddings": (
        {"peft_config": LoraConfig(target_modules=["word_embeddings", "query"])},
        ValueError,
        "target_modules names 'word_embeddings'",
        "train without an adapter",
    ),
    "an adapter that saves the projection": (
        {"peft_config": LoraConfig(modules_to_save=["decoder"])},
        ValueError,
        "modules_to_save names 'decoder'",
        "Leave it out",
    ),
    "an adapter's class": (
        {"peft_config": LoraConfig},
        TypeError,
        "peft_config must be a PEFT config",
        "LoraConfig(r=8)",
    ),
    "an adapter and frozen layers": (
        {"peft_config": LoraConfig(), "settings": {"freeze": "first_1"}},
        ValueError,
        "The adapter decides what trains",
        "or the adapter",
    ),
}
