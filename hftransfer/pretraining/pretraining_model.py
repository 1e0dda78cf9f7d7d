"""`PretrainingModel`: a masked language model or an encoder with the losses of its pre-training, as one module."""

from __future__ import annotations

from typing import Any

import torch

from ..models.masked_language_head import MaskedLanguageHead, masked_loss
from .packed_attention import PackedAttention, padded_inputs
from .plain_encoder import encoder_of
from .sentence_anchor import SentenceAnchor
from .sentence_contrast import SentenceContrast
from .sentence_denoising import SentenceDenoising
from .sentence_vectors import SentencePooling, row_vectors
from .wrapped_model import PretrainingOutput, WrappedModel

MASKED_WORDS, ANCHOR, CONTRAST = "masked_words", "sentence_anchor", "sentence_contrast"
DENOISING = "sentence_denoising"


class PretrainingModel(WrappedModel):
    """The user's model and what is asked of it, for one forward.

    Args:
        model: an `AutoModelForMaskedLM`, or an encoder without a head, PEFT-wrapped or not.
        head: of that model; `None` without masked words.
        attention: how it reads packed rows; `None` where batches are padded.
        anchor: keeps the means of rows near those before training.
        anchor_weight: what that counts.
        contrast: tells texts apart by two readings of each.
        contrast_weight: what that counts.
        denoising: writes texts anew from the vectors of their remains.
        denoising_weight: what that counts.
    """

    def __init__(
        self,
        model: Any,
        head: MaskedLanguageHead | None,
        attention: PackedAttention | None = None,
        anchor: SentenceAnchor | None = None,
        anchor_weight: float = 0.0,
        contrast: SentenceContrast | None = None,
        contrast_weight: float = 0.0,
        denoising: SentenceDenoising | None = None,
        denoising_weight: float = 0.0,
    ):
        super().__init__(model)
        self.head, self.attention, self.anchor, self.anchor_weight = head, attention, anchor, anchor_weight
        self.contrast, self.contrast_weight = contrast, contrast_weight
        self.denoising, self.denoising_weight = denoising, denoising_weight

    @property
    def loss_names(self) -> list[str]:
        losses = {MASKED_WORDS: self.head, ANCHOR: self.anchor, CONTRAST: self.contrast, DENOISING: self.denoising}
        return [name for name, loss in losses.items() if loss is not None]

    @property
    def loss_names_in_evaluation(self) -> list[str]:
        return [name for name in self.loss_names if name != CONTRAST]

    @property
    def measured(self) -> dict[str, int]:
        counted = {MASKED_WORDS: 0, DENOISING: 2}
        return {name: counted[name] for name in self.loss_names if name in counted}

    @property
    def sentence_weights(self) -> dict[str, float]:
        """What the measured losses of sentences count in the sum."""
        return {CONTRAST: self.contrast_weight, DENOISING: self.denoising_weight}

    def count_items(self, batch: dict[str, Any]) -> tuple[int, ...]:
        """Masked tokens, texts, and tokens to write anew of a batch."""
        masked, written = batch.get("labels"), batch.get("text_positions")
        return 0 if masked is None else len(masked), batch["rows"], 0 if written is None else len(written)

    def forward(
        self,
        rows: int,
        input_ids: torch.Tensor | None = None,
        segments: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items: torch.Tensor | None = None,
        **denoised: torch.Tensor,
    ) -> PretrainingOutput:
        """Losses of a batch from `MaskingCollator`.

        Args:
            rows: how many texts the batch holds.
            input_ids, segments, places: (sequences, width), from `place_rows`; absent where only what is left of the
                texts is read.
            positions: (masked,) in the sequences laid end to end.
            labels: (masked,) what stood there; without them a model of masked words gives logits alone.
            num_items: (3,) what `count_items` counts, such as an update's, to divide by instead of the batch's own.
            **denoised: `left_input_ids`, `left_segments` and `left_places` of what is left of the texts, `text_ids`
                and `text_positions` of the texts, as `SentenceDenoising` takes them.
        """
        logits = hidden = None
        inputs: dict[str, Any] = {}
        if input_ids is not None and segments is not None and places is not None:
            inputs = self._inputs(input_ids, segments, places)
            if self.head is not None and positions is not None:
                logits, hidden = self.head(inputs, positions)
                if labels is None:
                    return PretrainingOutput(logits=logits)
            else:
                logits = hidden = encoder_of(self.model)(**inputs)[0]
        batch = {"rows": rows, "labels": labels, **denoised}
        items = torch.tensor(self.count_items(batch)) if num_items is None else num_items
        items = items.to(next(self.model.parameters()).device, torch.float32).clamp_min(1)
        losses, weights = [], []
        if self.head is not None and logits is not None and labels is not None:
            losses.append(masked_loss(logits, labels) / items[0])
            weights.append(1.0)
        if self.anchor is not None and hidden is not None and segments is not None:
            losses.append(self.anchor(inputs, hidden, segments, rows) / items[1])
            weights.append(self.anchor_weight)
        if self.contrast is not None and hidden is not None and segments is not None and self.training:
            losses.append(self.contrast(self.model, inputs, hidden, segments, rows))
            weights.append(self.contrast_weight)
        if self.denoising is not None:
            left = self._hidden_of_the_left(denoised)
            texts = (denoised["text_ids"], denoised["text_positions"])
            total, vectors = self.denoising(left, denoised["left_segments"], rows, *texts)
            losses.append(total / items[2])
            weights.append(self.denoising_weight)
            hidden = left if hidden is None else hidden
            logits = vectors if logits is None else logits
        largest = [
            t.detach().abs().amax() if t is not None and t.numel() else items.new_zeros(()) for t in (hidden, logits)
        ]
        loss = sum(w * part for w, part in zip(weights, losses, strict=True)) if losses else None
        return PretrainingOutput(
            loss=loss,  # type: ignore[arg-type]
            losses=torch.stack([part.detach().float() for part in losses]) if losses else None,
            largest_values=torch.stack([value.float() for value in largest]),
            logits=logits,
        )

    def sentence_vectors(self, batch: dict[str, Any], pooling: SentencePooling) -> torch.Tensor:
        """(rows, d) vectors of the texts of a batch, in the model's mode of the moment."""
        inputs = self._inputs(batch["input_ids"], batch["segments"], batch["places"])
        hidden = encoder_of(self.model)(**inputs)[0]
        return row_vectors(hidden, batch["segments"], batch["rows"], pooling)

    def _inputs(self, input_ids: torch.Tensor, segments: torch.Tensor, places: torch.Tensor) -> dict[str, Any]:
        """Model inputs of a batch."""
        placed = {"input_ids": input_ids, "segments": segments, "places": places}
        dtype = next(self.model.parameters()).dtype
        return padded_inputs(placed) if self.attention is None else self.attention.inputs(placed, dtype)

    def _hidden_of_the_left(self, denoised: dict[str, torch.Tensor]) -> torch.Tensor:
        """(sequences, width, d) last hidden states of what is left of the texts."""
        inputs = self._inputs(*(denoised[f"left_{name}"] for name in ("input_ids", "segments", "places")))
        return encoder_of(self.model)(**inputs)[0]
