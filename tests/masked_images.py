"""Tiny vision models of the families that transformers masks images for, and runs of pre-training on tiny pictures."""

from __future__ import annotations

import pictures
import pretraining_runs as runs
import torch
from transformers import (
    AutoModelForMaskedImageModeling,
    DeiTConfig,
    FocalNetConfig,
    SwinConfig,
    Swinv2Config,
    ViTConfig,
)

from hftransfer import pretrain

TARGET = pictures.pictures(60, seed=1, labelled=False)
SOURCE = pictures.pictures(40, seed=0)
PLAIN = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SQUARES = {"image_size": 16, "patch_size": 4}
STAGES = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1]}
HEADS = {"num_heads": [2, 2], "window_size": 4}
FOCAL = {"hidden_sizes": [8, 16], "focal_levels": [2, 2], "focal_windows": [3, 3]}
CONFIGS = {
    "vit": lambda **more: ViTConfig(**PLAIN | SQUARES | more),
    "deit": lambda **more: DeiTConfig(**PLAIN | SQUARES | more),
    "swin": lambda **more: SwinConfig(**STAGES | HEADS | more),
    "swinv2": lambda **more: Swinv2Config(**STAGES | HEADS | more),
    "focalnet": lambda **more: FocalNetConfig(**STAGES | FOCAL | more),
}


def config(family: str = "vit", **more):
    """Config of a family; its decoder does not fit, as with any config that leaves encoder_stride out."""
    return CONFIGS[family](**more)


def painter(family: str = "vit", seed: int = 0, **more):
    """A masked image model whose decoder fits."""
    torch.manual_seed(seed)
    stride = 4 if family in ("vit", "deit") else 8
    return AutoModelForMaskedImageModeling.from_config(config(family, **{"encoder_stride": stride} | more))


def run(folder, given: dict | None = None, **settings):
    usual = {"model": painter(), "target": TARGET, "processing_class": pictures.processor()}
    arguments = usual | (given or {})
    return pretrain(arguments.pop("model"), args=runs.config(folder, **settings), **arguments)
