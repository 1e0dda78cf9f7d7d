"""`PretrainingModel`: a masked language model with the losses of its pre-training, as one module."""

from __future__ import annotations

from typing import Any

import torch

from ..models.masked_language_head import MaskedLanguageHead, masked_loss
from .packed_attention import PackedAttention, padded_inputs
from .sentence_anchor import SentenceAnchor
from .sentence_contrast import SentenceContrast
from .wrapped_model import PretrainingOutput, WrappedModel

MASKED_WORDS, ANCHOR, CONTRAST = "masked_words", "sentence_anchor", "sentence_contrast"


class PretrainingModel(WrappedModel):
    """The user's model and what is asked of it, for one forward.

    Args:
        model: an `AutoModelForMaskedLM`, PEFT-wrapped or not.
        head: of that model.
        attention: how it reads packed rows; `None` where batches are padded.
        anchor: keeps the means of rows near those before training.
        anchor_weight: what that counts.
        contrast: tells texts apart by two readings of each.
        contrast_weight: what that counts.
    """

    def __init__(
        self,
        model: Any,
        head: MaskedLanguageHead,
        attention: PackedAttention | None = None,
        anchor: SentenceAnchor | None = None,
        anchor_weight: float = 0.0,
        contrast: SentenceContrast | None = None,
        contrast_weight: float = 0.0,
    ):
        super().__init__(model)
        self.head, self.attention, self.anchor, self.anchor_weight = head, attention, anchor, anchor_weight
        self.contrast, self.contrast_weight = contrast, contrast_weight

    @property
    def loss_names(self) -> list[str]:
        others = {ANCHOR: self.anchor, CONTRAST: self.contrast}
        return [MASKED_WORDS, *(name for name, loss in others.items() if loss is not None)]

    def count_items(self, batch: dict[str, Any]) -> tuple[int, int]:
        """Masked tokens and rows of a batch."""
        return len(batch["labels"]), batch["rows"]

    def forward(
        self,
        input_ids: torch.Tensor,
        segments: torch.Tensor,
        places: torch.Tensor,
        positions: torch.Tensor,
        rows: int,
        labels: torch.Tensor | None = None,
        num_items: torch.Tensor | None = None,
    ) -> PretrainingOutput:
        """Losses of a batch from `MaskingCollator`.

        Args:
            input_ids, segments, places: (sequences, width), from `place_rows`.
            positions: (masked,) in the sequences laid end to end.
            rows: how many texts the batch holds.
            labels: (masked,) what stood there; without them there are logits alone.
            num_items: (2,) masked tokens and rows to divide by, such as an update's, instead of the batch's own.
        """
        placed = {"input_ids": input_ids, "segments": segments, "places": places}
        dtype = next(self.model.parameters()).dtype
        inputs = padded_inputs(placed) if self.attention is None else self.attention.inputs(placed, dtype)
        logits, hidden = self.head(inputs, positions)
        if labels is None:
            return PretrainingOutput(logits=logits)
        items = torch.tensor([len(labels), rows]) if num_items is None else num_items
        items = items.to(logits.device, torch.float32).clamp_min(1)
        loss = masked_loss(logits, labels) / items[0]
        losses = [loss]
        if self.anchor is not None and hidden is not None:
            losses.append(self.anchor(inputs, hidden, segments, rows) / items[1])
            loss = loss + self.anchor_weight * losses[-1]
        if self.contrast is not None and hidden is not None and self.training:
            losses.append(self.contrast(self.model, inputs, hidden, segments, rows))
            loss = loss + self.contrast_weight * losses[-1]
        largest = [
            t.detach().abs().amax() if t is not None and t.numel() else loss.detach().new_zeros(())
            for t in (hidden, logits)
        ]
        return PretrainingOutput(
            loss=loss,
            losses=torch.stack([part.detach().float() for part in losses]),
            largest_values=torch.stack([value.float() for value in largest]),
            logits=logits,
        )
