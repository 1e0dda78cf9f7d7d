"""Tiny masked language models of several families, with random weights."""

from __future__ import annotations

import torch
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
)

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
SHORT_WINDOW = {
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
}
CONFIGS = {
    "bert": lambda: BertConfig(**SIZES),
    "roberta": lambda: RobertaConfig(**SIZES, pad_token_id=1),
    "distilbert": lambda: DistilBertConfig(vocab_size=64, dim=16, n_layers=2, n_heads=2, hidden_dim=24),
    "modernbert": lambda: ModernBertConfig(**SIZES | SHORT_WINDOW),
    "electra": lambda: ElectraConfig(**SIZES, embedding_size=8),
    "albert": lambda: AlbertConfig(**SIZES, embedding_size=8),
    "mpnet": lambda: MPNetConfig(**SIZES),
    "deberta-v2": lambda: DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"]),
}


def masked_model(family: str = "bert", seed: int = 0, dtype=torch.float32, **options):
    """A masked language model by its family, in evaluation mode; weights large enough that words differ."""
    torch.manual_seed(seed)
    model = AutoModelForMaskedLM.from_config(CONFIGS[family](), dtype=dtype, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model
