"""Known classes of an image encoder: the rows of its own classifier as images of classes whose names are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from ...models.feature_hook import find_head
from ...models.module_mode import module_mode
from ...models.pretrained import load_model, load_quietly, loaded_label_names
from ..feature_extractor import FeatureExtractor
from ..frozen_backbone import IMAGES, pooler_output

ALIKE = 1e-4  # by how much equal features may differ, by their size


def known_classes(extractor: FeatureExtractor) -> tuple[tuple[str, ...], np.ndarray, np.ndarray] | None:
    """Classes that an image encoder was trained on: their names, and the weights and bias of its classifier.

    A classifier's row points where the features of its class are, so a row and a name are an image-text pair for which
    no image is needed. Of several names of a class ("tench, Tinca tinca") the first counts.

    Args:
        extractor: of the image encoder.

    Returns:
        (names, (K, d), (K,)), the mean row taken off the rows; `None` where the checkpoint has no classifier with
        names, or one that does not read the pooled output.
    """
    model = _classifier(extractor)
    names = None if model is None else loaded_label_names(model)
    if model is None or names is None or len(names) < 2:
        return None
    backbone = extractor.backbone("image")
    rng = np.random.default_rng(0)
    rows, _ = backbone.encode([rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)], ["sample"])
    batch = {IMAGES: backbone.stack(rows)[IMAGES].to(device=model.device, dtype=model.dtype)}
    with module_mode(model):
        head = find_head(model, batch)
    with module_mode(model), torch.no_grad():
        linear: Any = model.get_submodule(head.name)
        outputs = model.base_model(**batch)
        if getattr(outputs, "pooler_output", None) is None:
            return None
        pooled = pooler_output(outputs, type(model).__name__).flatten(1)
        if pooled.shape[1] != linear.in_features:
            return None
        expected, found = model(**batch).logits.float(), linear(pooled).float()
    if float((expected - found).abs().max()) > ALIKE * max(1.0, float(expected.abs().max())):
        return None
    weight = linear.weight.detach().float().cpu().numpy()
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float().cpu().numpy()
    return tuple(name.split(",")[0] for name in names), weight - weight.mean(0), bias - bias.mean()


def _classifier(extractor: FeatureExtractor) -> Any:
    """Model with its head, or `None` where it has none."""
    model = extractor.model
    if not isinstance(model, str):
        return model if type(model).__name__.endswith("ImageClassification") else None
    config = load_quietly(AutoConfig, model, extractor.revision)
    if not any(name.endswith("ImageClassification") for name in getattr(config, "architectures", None) or ()):
        return None
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
    loaded = load_model(model, "sequence-classification", names, extractor.commit_or_revision, "image", quiet=True)
    return None if getattr(loaded, "fresh_weights", ()) else loaded.float()
