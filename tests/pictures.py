"""Tiny pictures, image processors and image models, made in memory."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import tiny
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pillow
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIDE = 12  # of the pictures
SIZES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
SCRATCH = {"model_type": "resnet", **SIZES}


def processor(side: int = 16) -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def resnet(labels=tiny.LABELS, seed: int = 0, **config) -> ResNetForImageClassification:
    """Two basic stages with a head for `labels`."""
    torch.manual_seed(seed)
    names = dict(enumerate(labels))
    settings = SIZES | {"id2label": names, "label2id": {v: k for k, v in names.items()}} | config
    return ResNetForImageClassification(ResNetConfig(**settings))


def vit(seed: int = 0, **config) -> ViTModel:
    """One layer of width 24, with a pooler and without a head."""
    torch.manual_seed(seed)
    settings = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    return ViTModel(ViTConfig(**settings | {"image_size": 16, "patch_size": 8} | config))


def picture(label: int, rng: np.random.Generator, dark: bool = False) -> Pillow.Image:
    """Noise with a band in one of three colours, which says the class."""
    array = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    at = int(rng.integers(0, SIDE - 4))
    array[at : at + 4, :, label] += 120 if dark else 190
    return Pillow.fromarray(array)


def pictures(rows: int = 24, seed: int = 0, labels=tiny.LABELS, labelled: bool = True, dark: bool = False) -> Dataset:
    """Rows of `image` and `label`; the class can be learned."""
    rng, ids = np.random.default_rng(seed), [i % len(labels) for i in range(rows)]
    columns = {"image": [picture(i % 3, rng, dark) for i in ids], "label": ids}
    features = Features(image=Image(), label=ClassLabel(names=list(labels)))
    data = Dataset.from_dict(columns, features=features)
    return data if labelled else data.remove_columns("label")


def png(image: Pillow.Image, kind: str = "PNG", **options) -> bytes:
    """The bytes of a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_folder(
    folder: Path, splits: dict[str, int], seed: int = 0, dark: bool = False, labelled: bool = True
) -> str:
    """`train/up/3.png` …, or without splits `up/3.png`, by class; unlabelled ones lie in one folder."""
    for offset, (split, rows) in enumerate(splits.items()):
        data = pictures(rows, seed + offset, dark=dark)
        for i, row in enumerate(data):
            place = folder / split / (tiny.LABELS[row["label"]] if labelled else "")
            place.mkdir(parents=True, exist_ok=True)
            row["image"].save(place / f"{i}.png")
    return str(folder)
