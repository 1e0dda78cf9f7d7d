"""One tiny random model of each family that hftransfer must understand, of texts and of images."""

from __future__ import annotations

import tiny
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DeiTForImageClassification,
)

from hftransfer.models.batch_norm_statistics import adapt_batch_norm, batch_norms

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

# Recurrent and state-space models that have a classification head, with layers of attention in between.
MIX = SIZES | {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3, "num_hidden_layers": 4}
MIXED = {"layer_types": ["linear_attention", "full_attention"] * 2}
STATE_SPACE = {"mamba_d_state": 4, "mamba_d_conv": 2, "mamba_expand": 2}
EXPERTS = {"num_experts_per_tok": 1, "head_dim": 16}
RECURRENT = {
    "jamba": MIX
    | STATE_SPACE
    | {"num_experts": 2, "num_experts_per_tok": 1, "mamba_dt_rank": 4, "use_mamba_kernels": False}
    | dict.fromkeys(("attn_layer_period", "expert_layer_period"), 2)
    | dict.fromkeys(("attn_layer_offset", "expert_layer_offset"), 1),
    "zamba": MIX
    | STATE_SPACE
    | {"num_hidden_layers": 6, "layers_block_type": ["mamba", "mamba", "hybrid", "mamba", "hybrid", "mamba"]}
    | {"n_mamba_heads": 2, "mamba_dt_rank": 4, "use_mamba_kernels": False}
    | {"attention_hidden_size": 64, "attention_head_dim": 32},
    "zamba2": MIX
    | STATE_SPACE
    | {"hybrid_layer_ids": [1, 3], "layers_block_type": ["mamba", "hybrid"] * 2, "num_mem_blocks": 1}
    | {"n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 1, "chunk_size": 8, "use_mem_rope": True}
    | {"attention_hidden_size": 64, "attention_head_dim": 32},
    "qwen3_next": MIX
    | MIXED
    | EXPERTS
    | {"num_experts": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
    | {"linear_conv_kernel_dim": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    | {"linear_num_key_heads": 2, "linear_num_value_heads": 4},
    "minimax": MIX | MIXED | EXPERTS | {"num_local_experts": 2, "block_size": 4},
}
RECURRENT_TAGGERS = ("qwen3_next", "minimax")

SIDE = 32  # pixels
PATCHES = SIZES | {"num_hidden_layers": 3, "image_size": SIDE, "patch_size": 8}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 12, 16], "depths": [1, 1, 2]}
NEXT = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 2, 1], "layer_scale_init_value": 0.5}
TOWERS = {"vision_config": PATCHES, "text_config": SIZES | {"vocab_size": 64, "bos_token_id": 2, "eos_token_id": 3}}
MOBILE = {"image_size": SIDE, "depth_multiplier": 0.25, "min_depth": 4, "classifier_dropout_prob": 0.1}
VISION = {
    "vit": PATCHES,
    "deit": PATCHES,
    "beit": PATCHES,
    "dinov2": {k: v for k, v in PATCHES.items() if k != "intermediate_size"} | {"mlp_ratio": 2},
    "swin": {"image_size": SIDE, "patch_size": 2, "embed_dim": 8, "depths": [1, 1, 2], "num_heads": [2, 2, 2]}
    | {"window_size": 4},
    "convnext": NEXT,
    "convnextv2": NEXT,
    "resnet": STAGES | {"layer_type": "basic"},
    "regnet": STAGES | {"groups_width": 4},
    "mobilenet_v1": MOBILE,
    "mobilenet_v2": MOBILE | {"depth_divisible_by": 4, "finegrained_output": False},
    "efficientnet": {"image_size": SIDE, "width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320}
    | {"initializer_range": 0.3, "drop_connect_rate": 0.0},
    "clip": TOWERS,
    "siglip": TOWERS,
}


def build(family: str, task: str = SEQUENCE, labels=tiny.LABELS, seed: int = 0, **config):
    """A model of a few layers of width 32 in training mode, with dropout where its family has it."""
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    own = FAMILIES.get(family) or RECURRENT[family]
    settings = SHARED | own | {"id2label": names, "label2id": {v: k for k, v in names.items()}} | config
    auto = AutoModelForTokenClassification if task == TOKEN else AutoModelForSequenceClassification
    return auto.from_config(AutoConfig.for_model(family, **settings)).train()


def build_vision(family: str, seed: int = 0, **config):
    """A tiny image classifier for three labels in training mode, its batch norms settled on noise."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **VISION[family] | config)
    config.id2label, config.label2id = dict(enumerate(tiny.LABELS)), {v: k for k, v in enumerate(tiny.LABELS)}
    if family == "deit":  # the auto class knows two heads for it and chooses by a checkpoint's own word
        return DeiTForImageClassification(config).train()
    model = AutoModelForImageClassification.from_config(config).train()
    if batch_norms(model):  # as drawn, MobileNets' activations vanish in evaluation
        adapt_batch_norm(model, [images(16, seed=2)])
    return model


def images(rows: int = 4, seed: int = 1) -> dict[str, torch.Tensor]:
    """Model inputs: noise."""
    return {"pixel_values": torch.randn(rows, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))}


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
