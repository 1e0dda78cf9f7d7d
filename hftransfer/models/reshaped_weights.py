"""Weights of another shape: positions repeated or interpolated, input channels summed or repeated."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

NONE = "nothing"  # is taken over, as the report says it


def reshape_weights(new_model: Any, name: str, tensor: torch.Tensor, source_tensor: torch.Tensor) -> tuple[int, str]:
    """Weights of another shape, taken over as far as positions or input channels can be.

    Args:
        new_model: that the tensor is of; its module says what the weights are.
        name: of the tensor.
        tensor: which is filled in place.
        source_tensor: the old weights.

    Returns:
        How many numbers come from the old ones, and how, for the report.
    """
    module = new_model.get_submodule(name.rpartition(".")[0])
    if is_position_table(name.rpartition(".")[0], module) and new_model.main_input_name == "input_ids":
        offset = position_offset(module)
        count = len(source_tensor) - offset
        index = torch.arange(len(tensor))
        index[offset:] = offset + (index[offset:] - offset) % count
        tensor.copy_(source_tensor[index])
        return tensor.numel(), f"{min(count, len(tensor) - offset):,} positions" + (
            ", then over again" if len(tensor) > len(source_tensor) else ""
        )
    if "position_embedding" in name and tensor.shape[-1] == source_tensor.shape[-1]:
        tensor.copy_(_interpolated_positions(source_tensor, tensor.shape).view_as(tensor))
        return tensor.numel(), "interpolated over the grid of patches"
    if isinstance(module, nn.Conv2d) and tensor.ndim == 4 and tensor.shape[0] == source_tensor.shape[0]:
        if tensor.shape[2:] == source_tensor.shape[2:] and module.groups == 1:
            channels, old_channels = tensor.shape[1], source_tensor.shape[1]
            mixed = (
                source_tensor.sum(1, keepdim=True)
                if channels == 1
                else source_tensor[:, torch.arange(channels) % old_channels] * (old_channels / channels)
            )
            tensor.copy_(mixed)
            return tensor.numel(), f"{old_channels} input channels made {channels}"
    shapes = " x ".join(map(str, source_tensor.shape)), " x ".join(map(str, tensor.shape))
    return 0, f"{NONE}: {shapes[0]} does not fit {shapes[1]}"


def is_position_table(name: str, module: Any) -> bool:
    """Whether a module of such a name is a table of absolute positions of tokens."""
    return isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "wpe"))


def position_offset(table: nn.Embedding) -> int:
    """First position of a table: RoBERTa counts positions from its padding index on."""
    return 0 if table.padding_idx is None else table.padding_idx + 1


def _interpolated_positions(old: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Positions of a square grid of patches, behind those of class tokens, for another grid."""
    width = old.shape[-1]
    rows, new_count = old.reshape(-1, width), shape.numel() // width
    old_side = int(len(rows) ** 0.5)
    class_tokens = len(rows) - old_side**2
    new_side = round((new_count - class_tokens) ** 0.5)
    if new_side**2 + class_tokens != new_count:
        raise ValueError(
            f"{new_count} positions are no square grid behind {class_tokens} class tokens; give a square image_size."
        )
    grid = rows[class_tokens:].T.reshape(1, width, old_side, old_side).float()
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic", align_corners=False)
    return torch.cat([rows[:class_tokens], grid.reshape(width, -1).T.to(old.dtype)])
