"""Packed attention: whether a model keeps packed rows apart, and what it has to be told for that.

Two attention implementations of transformers take a mask of pairs of positions, (sequences, 1, width, width): `sdpa`
one of booleans, `eager` one that is added. Whether a model passes it on, takes the position of each token, and looks
at nothing else is not declared anywhere; two texts, packed and by themselves, say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..models.adapters import plain_model
from ..models.module_mode import module_mode
from .packing import PADDING, packed_layout, place_rows, same_segment

TOLERANCE = 1e-4  # of hidden states that are packed or not, in float32
POSITION_TABLES = ("position_embeddings", "wpe", "position_embedding")
LONGEST_PROBE = 300  # tokens


@dataclass(frozen=True)
class PackedAttention:
    """What a model has to be told of a packed batch.

    Args:
        additive: the mask is added to the scores; else it says what may be read.
        first_position: position of a row's first token (RoBERTa counts from 2).
        window: how far the model's local layers read; `None` without such layers.
    """

    additive: bool
    first_position: int
    window: int | None = None

    def inputs(self, placed: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, Any]:
        """Model inputs of a packed batch.

        Args:
            placed: from `place_rows`.
            dtype: of the model's hidden states.
        """
        may_read = same_segment(placed["segments"])
        mask: Any = self._mask(may_read, dtype)
        if self.window is not None:
            positions = torch.arange(may_read.shape[-1], device=may_read.device)
            near = (positions[:, None] - positions[None, :]).abs() <= self.window
            mask = {"full_attention": mask, "sliding_attention": self._mask(may_read & near, dtype)}
        return {
            "input_ids": placed["input_ids"],
            "attention_mask": mask,
            "position_ids": placed["places"] + self.first_position,
        }

    def _mask(self, may_read: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not self.additive:
            return may_read
        return torch.zeros(may_read.shape, dtype=dtype, device=may_read.device).masked_fill(
            ~may_read, torch.finfo(dtype).min
        )


def padded_inputs(placed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Model inputs of a batch with a row in each sequence."""
    return {"input_ids": placed["input_ids"], "attention_mask": (placed["segments"] != PADDING).long()}


def find_packed_attention(model: Any, tokens: Sequence[int], longest: int) -> tuple[PackedAttention | None, str]:
    """How a model takes packed rows, found by two texts that it reads packed and by themselves.

    Args:
        model: an encoder, PEFT-wrapped or not.
        tokens: ids of some tokens of texts.
        longest: tokens of a row at most.

    Returns:
        What to tell the model, `None` where it cannot keep packed rows apart; and the reason in a few words.
    """
    inner = plain_model(model)
    implementation = str(getattr(inner.config, "_attn_implementation", None))
    if implementation not in ("sdpa", "eager"):
        return None, f"attention implementation {implementation} takes no mask of pairs"
    layer_types = getattr(inner.config, "layer_types", None) or ()
    window = getattr(inner.config, "sliding_window", None) if "sliding_attention" in layer_types else None
    length = min(longest, LONGEST_PROBE, max(8, 2 * (window or 0) + 4))
    rows = [[tokens[(7 * i + k) % len(tokens)] for k in range(length - 3 * i)] for i in range(2)]
    device = next(model.parameters()).device
    placed, packed = (
        {name: tensor.to(device) for name, tensor in place_rows(rows, layout, rows[0][0]).items()}
        for layout in (
            packed_layout([len(row) for row in rows], length),
            packed_layout([len(r) for r in rows], 2 * length),
        )
    )
    try:
        with module_mode(model), torch.no_grad():
            expected, first = _hidden_and_position(model, padded_inputs(placed))
            dtype = expected.dtype
            attention = PackedAttention(implementation == "eager", first, window)
            found, _ = _hidden_and_position(model, attention.inputs(packed, dtype))
        if found.shape[:2] != packed["input_ids"].shape:
            return None, f"{type(inner).__name__} gives states of another shape"
        for row, tokens_of_row in enumerate(rows):
            alone, together = (h[p["segments"] == row] for h, p in ((expected, placed), (found, packed)))
            tolerance = TOLERANCE if dtype in (torch.float32, torch.float64) else 5e-2
            if len(alone) != len(tokens_of_row) or not torch.allclose(alone, together, rtol=tolerance, atol=tolerance):
                return None, f"{type(inner).__name__} reads across packed texts"
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
        return None, f"{type(inner).__name__} takes no mask of pairs ({type(error).__name__})"
    return attention, f"{implementation} attention with a mask of pairs"


def _hidden_and_position(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Last hidden states of a model, and the position of the first token."""
    seen: list[int] = []

    def look(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], torch.Tensor) and args[0].numel() and not seen:
            seen.append(int(args[0].flatten()[0]))

    inner = plain_model(model)
    hooks = [
        module.register_forward_pre_hook(look)
        for name, module in inner.named_modules()
        if name.endswith(POSITION_TABLES) and isinstance(module, nn.Embedding)
    ]
    try:
        output = model(**inputs, output_hidden_states=True)
    finally:
        for hook in hooks:
            hook.remove()
    return output.hidden_states[-1], seen[0] if seen else 0
