"""Tiny models, tokenizers and data sets, made in memory."""

from __future__ import annotations

import random

import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification, BertTokenizer

LABELS = ("down", "up", "flat")
TAGS = ("whole", "split")
WORDS = tuple(f"w{i}" for i in range(40))


def tokenizer() -> BertTokenizer:
    """One token a word; `w1x` splits into `w1` and `##x`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {token: i for i, token in enumerate([*special, *WORDS, *LABELS, "##x", "##y"])}
    return BertTokenizer(vocab=vocab, model_max_length=64)


def bert(labels=LABELS, tagging: bool = False, seed: int = 0, **config):
    """A two-layer BERT of width 32 with a head for `labels`."""
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    settings = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "id2label": names,
        "label2id": {v: k for k, v in names.items()},
    }
    cls = BertForTokenClassification if tagging else BertForSequenceClassification
    return cls(BertConfig(**settings | config))


def domain(rows: int = 24, seed: int = 0, labels=LABELS, labelled: bool = True, longest: int = 12) -> Dataset:
    """Random sentences; the label is a word of the sentence, so it can be learned."""
    draw = random.Random(seed)
    texts, ids = [], []
    for i in range(rows):
        words = draw.choices(WORDS, k=draw.randint(2, longest))
        ids.append(i % len(labels))
        texts.append(" ".join([*words, labels[ids[-1]]]))
    features = Features(text=Value("string"), label=ClassLabel(names=list(labels)))
    data = Dataset.from_dict({"text": texts, "label": ids}, features=features)
    return data if labelled else data.remove_columns("label")


def tagged(rows: int = 24, seed: int = 0, labelled: bool = True, longest: int = 8) -> Dataset:
    """Pre-split words for tagging; the tag says whether the tokenizer splits the word, so it can be learned."""
    draw = random.Random(seed)
    tags = [[draw.randint(0, 1) for _ in range(draw.randint(1, longest))] for _ in range(rows)]
    words = [[draw.choice(WORDS) + "x" * tag for tag in row] for row in tags]
    features = Features(tokens=List(Value("string")), label=List(ClassLabel(names=list(TAGS))))
    data = Dataset.from_dict({"tokens": words, "label": tags}, features=features)
    return data if labelled else data.remove_columns("label")
