"""Settings that pre-training must refuse, those of sentence vectors among them: what is given to a run, the error, the
culprit that is named, the remedy."""

from __future__ import annotations

import math

import masked_models
from bad_pretraining import ROWS, encoder
from transformers import AutoModel, GPT2Config, GPT2Model

from hftransfer import AdaptationConfig


def still_encoder():
    """An encoder without dropout."""
    return AutoModel.from_config(masked_models.CONFIGS["modernbert"]())


def causal():
    return GPT2Model(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))


def unlike_any_decoder():
    return AutoModel.from_config(masked_models.CONFIGS["distilbert"]())


PRETRAINING_SETTINGS = {
    "another kind of config": (
        {"args": lambda folder: AdaptationConfig(str(folder))},
        TypeError,
        "args must be a PretrainingConfig",
        "Adapt",
    ),
    "nothing to learn": ({"settings": {"mask_probability": 0}}, ValueError, "mask_probability=0", "0.15 is usual"),
    "all words masked": ({"settings": {"mask_probability": 1}}, ValueError, "mask_probability=1", "below 1"),
    "a probability that is none": (
        {"settings": {"mask_probability": math.nan}},
        ValueError,
        "mask_probability=nan",
        "below 1",
    ),
    "shares above 1": (
        {"settings": {"mask_hidden_share": 0.8, "mask_random_share": 0.3}},
        ValueError,
        "mask_random_share=0.3",
        "at most 1 together",
    ),
    "a bias without a source": (
        {"settings": {"target_word_bias": 1.0}},
        ValueError,
        "target_word_bias=1",
        "there is no source",
    ),
    "a bias with most words masked": (
        {"source": ROWS, "settings": {"target_word_bias": 1.0, "mask_probability": 0.6, "held_out": 0}},
        ValueError,
        "mask_probability=0.6 with target_word_bias",
        "Lower it",
    ),
    "half a row held out": (
        {"settings": {"held_out": 2.5}},
        ValueError,
        "held_out=2.5",
        "a whole number of rows",
    ),
    "all rows held out": ({"settings": {"held_out": 40}}, ValueError, "held_out=40", "Lower it"),
    "evaluation on nothing": (
        {"settings": {"held_out": 0, "eval_strategy": "epoch"}},
        ValueError,
        "held_out=0 holds none out",
        "Leave one of them out",
    ),
    "a metric that is not measured": (
        {"settings": {"metric_for_best_model": "accuracy"}},
        ValueError,
        "metric_for_best_model='accuracy'",
        "loss and perplexity",
    ),
    "too long a text": (
        {"settings": {"max_length": 900}},
        ValueError,
        "max_length=900",
        "at the model's own limit",
    ),
    "labels that are smoothed": (
        {"settings": {"label_smoothing_factor": 0.1}},
        ValueError,
        "label_smoothing_factor=0.1",
        "Leave it out",
    ),
    "sharded weights": ({"settings": {"fsdp": True}}, ValueError, "fsdp=True is not for pre-training", "Leave it out"),
    "what trains by labelled rows": (
        {"settings": {"trainable": "auto"}},
        ValueError,
        "trainable='auto' goes by labelled rows",
        "Say what trains",
    ),
    "nothing trains": (
        {"settings": {"trainable": "block:encoder.layer.0", "freeze": "first_2"}},
        ValueError,
        "leave nothing to train",
        "Take what is to train out of freeze",
    ),
    "tokens of no sequence": ({"settings": {"pack_length": 2}}, ValueError, "pack_length=2", "It counts tokens"),
    "a negative anchor": (
        {"settings": {"sentence_anchor": -1}},
        ValueError,
        "sentence_anchor=-1",
        "at least 0",
    ),
}
CONTRAST = {"mask_probability": 0, "sentence_contrast": 1.0}
DENOISING = {"mask_probability": 0, "sentence_denoising": 1.0}
PRETRAINING_SENTENCES = {
    "an anchor alone": (
        {"settings": {"mask_probability": 0, "sentence_anchor": 1.0}},
        ValueError,
        "sentence_anchor=1 keeps vectors where they are",
        "Give sentence_contrast or sentence_denoising a weight",
    ),
    "a model with a head and no masked words": (
        {"settings": CONTRAST},
        ValueError,
        "This BertForMaskedLM has a head",
        "Pass its encoder",
    ),
    "a decoder as encoder": (
        {"model": causal, "settings": CONTRAST},
        ValueError,
        "reads from left to right",
        "Name an",
    ),
    "two readings that are one": (
        {"model": still_encoder, "settings": CONTRAST},
        ValueError,
        "this ModernBertModel has none",
        "or leave it out",
    ),
    "one text a batch": (
        {"model": encoder, "settings": CONTRAST | {"per_device_train_batch_size": 1}},
        ValueError,
        "per_device_train_batch_size=1 leaves one alone",
        "Raise it",
    ),
    "one text to measure on": (
        {"model": encoder, "settings": CONTRAST | {"held_out": 1}},
        ValueError,
        "held_out leaves one",
        "set held_out=0",
    ),
    "one text to train on": (
        {"model": encoder, "target": {"text": ["w1 w2"]}, "settings": CONTRAST | {"held_out": 0}},
        ValueError,
        "there is one text to train on",
        "Give more texts",
    ),
    "texts that are all the same": (
        {"model": encoder, "target": {"text": ["w1 w2"] * 9}, "settings": CONTRAST | {"held_out": 0}},
        ValueError,
        "or all are the same",
        "leave sentence_contrast out",
    ),
    "an encoder that is like no decoder": (
        {"model": unlike_any_decoder, "settings": DENOISING},
        ValueError,
        "no decoder made like a DistilBertModel",
        "Set denoising_layers to 1",
    ),
    "a decoder of nothing": (
        {"settings": {"denoising_layers": 2}},
        ValueError,
        "denoising_layers=2 is of sentence_denoising",
        "Give that a weight",
    ),
    "deletion of all words": (
        {"settings": DENOISING | {"deleted_share": 1}},
        ValueError,
        "deleted_share=1 must be above 0 and below 1",
        "the paper's is 0.6",
    ),
    "deletion without denoising": (
        {"settings": CONTRAST | {"deleted_share": 0.3}},
        ValueError,
        "deleted_share=0.3 is of sentence_denoising",
        "leave deleted_share out",
    ),
    "a bias of words that are not masked": (
        {"source": ROWS, "settings": CONTRAST | {"target_word_bias": 1.0}},
        ValueError,
        "target_word_bias=1 is of masked words",
        "Mask some",
    ),
    "another rate for a head that is not there": (
        {"settings": DENOISING | {"head_lr_multiplier": 5.0}},
        ValueError,
        "head_lr_multiplier=5 is of masked words",
        "leave head_lr_multiplier out",
    ),
    "the best perplexity of no words": (
        {"settings": CONTRAST | {"metric_for_best_model": "perplexity"}},
        ValueError,
        "metric_for_best_model='perplexity' is measured at masked words",
        "Name 'loss'",
    ),
    "an unknown pooling": (
        {"settings": CONTRAST | {"sentence_pooling": "clss"}},
        ValueError,
        "sentence_pooling='clss'",
        "Did you mean 'cls'?",
    ),
    "vectors that nothing reads": (
        {"settings": {"sentence_pooling": "mean"}},
        ValueError,
        "nothing here reads them",
        "or leave it out",
    ),
    "one domain in balance": (
        {"settings": {"balance_domains": True}},
        ValueError,
        "there is one",
        "Give a source and a target",
    ),
    "a head alone to train": (
        {"model": encoder, "settings": CONTRAST | {"trainable": "head"}},
        ValueError,
        "nothing to train",
        "name more in trainable",
    ),
}
