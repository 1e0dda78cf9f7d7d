"""Weights of a checkpoint under other names than the model's, as transformers writes those of families it has renamed.

Since version 5 it calls the layers of ViT, DeiT or Swin otherwise than their checkpoints do, and writes them under the
former names. `Trainer` loads a checkpoint by the names in its file and passes over those that it does not find.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ...models.pretrained import load_quietly


def load_renamed_weights(model: Any, checkpoint: str) -> bool:
    """Weights of a checkpoint, loaded into a plain model if the file calls some of them otherwise than the model.

    Args:
        model: the user's, changed in place; adapters and models of other libraries are left alone.
        checkpoint: its folder.

    Returns:
        Whether they were loaded; otherwise the file's names are the model's, and nothing was done.

    Raises:
        ValueError: weights that are not finite.
        RuntimeError: weights of other shapes.
    """
    if not isinstance(model, PreTrainedModel) or getattr(model, "_hf_peft_config_loaded", False):
        return False
    own_names = set(model.state_dict())
    if names_in_file(Path(checkpoint)) <= own_names:
        return False
    saved = load_quietly(type(model), checkpoint, dtype=model.dtype).state_dict()
    model.load_state_dict({name: value for name, value in saved.items() if name in own_names}, strict=False)
    return True


def names_in_file(folder: Path) -> set[str]:
    """Names of the weights in a model's folder; empty where it has none in safetensors."""
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        return set()
    with safe_open(folder / SAFE_WEIGHTS_NAME, framework="pt") as file:
        return set(file.keys())
