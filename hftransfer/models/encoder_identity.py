"""Identity of an encoder: the hash of what a model computes its features with, whatever head or adapter is on it."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from .adapters import is_peft

UNCOUNTED = "num_batches_tracked"  # nothing is computed with it


def encoder_hash(model: Any, head: str) -> str:
    """Hash of the weights below the head: 32 hexadecimal digits.

    Weights count with their names, shapes and values, in whatever precision they are, and so do the running statistics
    of batch norms. What an adapter adds is left out: before training it changes nothing.

    Args:
        model: plain or PEFT-wrapped.
        head: full name of the final linear, from `find_head`.

    Example:
        >>> encoder_hash(model, find_head(model, batch).name) == encoder_hash(model, "classifier")
        True
    """
    added = getattr(model.base_model, "prefix", None) if is_peft(model) else None
    below = f"{_plain_name(head).partition('.modules_to_save')[0]}."
    tensors = {}
    for full_name, tensor in model.state_dict().items():
        name = _plain_name(full_name)
        of_adapter = ".modules_to_save." in f".{full_name}." or (added is not None and f".{added}" in f".{full_name}")
        if not (of_adapter or name.endswith(UNCOUNTED) or name.startswith(below)):
            tensors[name] = tensor
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous()
        flat = flat.float() if flat.is_floating_point() else flat  # bfloat16 loaded as float32 is the same encoder
        state.update(f"{name} {flat.dtype} {tuple(flat.shape)}".encode())
        state.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return state.hexdigest()


def _plain_name(name: str) -> str:
    """Name of a weight without what PEFT puts into it."""
    parts = name.removeprefix("base_model.model.").split(".")
    return ".".join(part for part in parts if part not in ("base_layer", "original_module"))
