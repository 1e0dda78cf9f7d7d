"""Strong views of target rows in the model: a span of tokens hidden from attention, or a function of yours."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...objectives.imported_function import resolved_function
from ...objectives.second_view import CUTOFF, SecondView, second_view_of
from ..config import AdaptationConfig
from ..teachers.objective_fitting import probe_rows

MASK = "attention_mask"
MODULUS = (1 << 31) - 1  # prime: products of two residues fit into 64 bits


class HiddenSpan(nn.Module):
    r"""Cut-off: a span of each row's tokens is hidden, as if it were padding.

    Of L real tokens, the first and the last are always seen, since models pool there. Of the L - 2 between,
    max(1, round(cutoff · (L - 2))) tokens in a row are hidden; rows of fewer than three tokens stay as they are.

    Where the span starts is a function of the number of the call, which checkpoints keep, and the row's tokens, so
    that a resumed run is the same to the bit, and a row is cut alike on whichever process it is and however it is
    padded.

    Args:
        cutoff: share of the tokens.

    Shapes: `attention_mask` (m, tokens) and, where there are ids, `input_ids` (m, tokens) -> the same.

    Paper: Shen et al., A Simple but Tough-to-Beat Data Augmentation Approach for Natural Language Understanding and
    Generation, 2020: its span cut-off.
    """

    calls: torch.Tensor

    def __init__(self, cutoff: float = CUTOFF):
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        mask = inputs[MASK]
        position = mask.long().cumsum(1) * mask.long()  # 1 … L on real tokens, 0 on padding
        inner = position.amax(1) - 2
        length = (self.cutoff * inner).round().long().clamp_min(1)
        choices = (inner - length + 1).clamp_min(1)
        start = 2 + self._draw(inputs.get("input_ids", mask), position) % choices
        hidden = (position >= start.unsqueeze(1)) & (position < (start + length).unsqueeze(1))
        hidden = hidden & (inner > 0).unsqueeze(1)
        self.calls += 1
        return inputs | {MASK: mask.masked_fill(hidden, 0)}

    def _draw(self, ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """(m,) numbers that look random, of the call and each row's tokens; integers are exact on all devices."""
        factor = (position * 48271 + 11) % MODULUS
        row = ((ids.long() + 1) * factor % MODULUS * (position > 0)).sum(1) % MODULUS
        number = (row + (self.calls + 1) * 1103515245) % MODULUS
        for _ in range(2):
            number = ((number ^ (number >> 13)) % MODULUS) * 742938285 % MODULUS
        return number ^ (number >> 16)


class ChangedByFunction(nn.Module):
    """Strong views by a function of the model inputs."""

    def __init__(self, function: Any):
        super().__init__()
        self.function = resolved_function(function)

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self.function(dict(inputs))


def build_strong_views(args: AdaptationConfig, prepared: Any) -> nn.Module | None:
    """What changes the second views of target rows in the model; `None` where nothing does.

    Raises:
        ValueError: objectives want different views, or one that this model's inputs cannot have.
    """
    view = second_view_of(args.objective_specs())
    if view is None or view.view == "same":
        return None
    if view.function is not None:
        return ChangedByFunction(view.function)
    if prepared.encoder.modality == "image":
        check_image_view(view)
        return None  # pictures are augmented when a batch is made
    if MASK not in probe_rows(prepared):
        raise ValueError(
            "A strong view hides tokens in the attention mask, and this tokenizer makes none. Set view='same', or "
            "give a function of your own."
        )
    return HiddenSpan(CUTOFF if view.cutoff is None else view.cutoff)


def check_image_view(view: SecondView) -> None:
    """Check that a view is one of pictures; raises a `ValueError`."""
    if view.cutoff is not None:
        raise ValueError(f"cutoff={view.cutoff} hides tokens of texts and has no effect on pictures: leave it out.")
