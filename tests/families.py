"""One tiny random model of each text family that hftransfer must understand, for sequences and for tokens."""

from __future__ import annotations

import tiny
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

SEQUENCE, TOKEN = "sequence-classification", "token-classification"
SHARED = {"vocab_size": 64, "max_position_embeddings": 66, "pad_token_id": 0}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SPECIAL = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
RELATIVE = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}

FAMILIES = {
    "bert": SIZES,
    "albert": dict(**SIZES, embedding_size=16),
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "roberta": SIZES,
    "xlm-roberta": SIZES,
    "electra": dict(**SIZES, embedding_size=16),
    "mpnet": SIZES,
    "deberta-v2": dict(
        **SIZES, **RELATIVE, norm_rel_ebd="layer_norm", position_biased_input=False, pooler_hidden_size=32
    ),
    "modernbert": dict(**SIZES, **SPECIAL),
    "llama": dict(**SIZES, num_key_value_heads=2, bos_token_id=2, eos_token_id=3),
}


def build(family: str, task: str = SEQUENCE, labels=tiny.LABELS, seed: int = 0, **config):
    """A two-layer model of width 32 in training mode, with dropout where its family has it."""
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    settings = SHARED | FAMILIES[family] | {"id2label": names, "label2id": {v: k for k, v in names.items()}} | config
    auto = AutoModelForTokenClassification if task == TOKEN else AutoModelForSequenceClassification
    return auto.from_config(AutoConfig.for_model(family, **settings)).train()


def tokenizer():
    """The tiny tokenizer without `token_type_ids`, which half of the families refuse."""
    plain = tiny.tokenizer()
    plain.model_input_names = ["input_ids", "attention_mask"]
    return plain


def batch(left: bool = False, rows: int = 3, width: int = 7) -> dict[str, torch.Tensor]:
    """Model inputs of unequal lengths, padded on one side."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 50, (rows, width), generator=draw)
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        padded = slice(0, row) if left else slice(width - row, width)
        ids[row, padded], mask[row, padded] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}
