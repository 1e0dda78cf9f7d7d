"""Grey images of three brightnesses as data sets, and the small network and processor that go with them."""

from __future__ import annotations

import numpy as np
import tiny
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pixels
from transformers import AutoModelForImageClassification, ResNetConfig, ViTImageProcessor

SIDE = 16


def domain(rows: int = 20, seed: int = 0, shift: int = 0, labelled: bool = True) -> Dataset:
    """Noise whose level says the class; `shift` makes a domain brighter."""
    draw = np.random.default_rng(seed)
    level = [40 * (i % 3) + shift for i in range(rows)]
    images = [
        Pixels.fromarray((draw.integers(0, 60, (SIDE, SIDE)) + up).astype("uint8")).convert("RGB") for up in level
    ]
    features = Features(image=Image(), label=ClassLabel(names=list(tiny.LABELS)))
    data = Dataset.from_dict({"image": images, "label": [i % 3 for i in range(rows)]}, features=features)
    return data if labelled else data.remove_columns("label")


def resnet(seed: int = 0):
    """Two stages of one block, for colour images."""
    torch.manual_seed(seed)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    config.id2label, config.label2id = dict(enumerate(tiny.LABELS)), {v: k for k, v in enumerate(tiny.LABELS)}
    return AutoModelForImageClassification.from_config(config)


def processor(side: int = SIDE) -> ViTImageProcessor:
    """Scales to `side` pixels."""
    return ViTImageProcessor(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.25] * 3)
