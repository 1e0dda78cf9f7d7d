"""`ImagePretrainingModel`: a masked image model with its loss, as one module."""

from __future__ import annotations

from typing import Any

import torch

from ..models.image_decoder import reconstruction_loss
from .wrapped_model import PretrainingOutput, WrappedModel

MASKED_PATCHES = "masked_patches"


class ImagePretrainingModel(WrappedModel):
    """The user's masked image model and its loss, for one forward.

    Args:
        model: an `AutoModelForMaskedImageModeling`, PEFT-wrapped or not.
    """

    value_names = ("painted pixels",)
    attention = None  # of packed rows, which there are none of

    @property
    def loss_names(self) -> list[str]:
        return [MASKED_PATCHES]

    def count_items(self, batch: dict[str, Any]) -> tuple[int, ...]:
        """Masked patches and rows of a batch."""
        return int(batch["masked"].sum()), batch["rows"]

    def forward(
        self,
        pixel_values: torch.Tensor,
        masked: torch.Tensor,
        rows: int,
        num_items: torch.Tensor | None = None,
    ) -> PretrainingOutput:
        """Loss of a batch from `ImageMaskingCollator`.

        Args:
            pixel_values: (rows, channels, side, side), whole.
            masked: (rows, patches) whether each patch is hidden from the model.
            rows: how many images the batch holds.
            num_items: (2,) masked patches and rows to divide by, such as an update's, instead of the batch's own.
        """
        dtype = next(self.model.parameters()).dtype
        painted = self.model(pixel_values=pixel_values.to(dtype), bool_masked_pos=masked).reconstruction
        count = masked.sum() if num_items is None else num_items[0].to(painted.device)
        loss = reconstruction_loss(pixel_values, painted, masked) / count.clamp_min(1)
        return PretrainingOutput(
            loss=loss,
            losses=loss.detach().float()[None],
            largest_values=painted.detach().abs().amax().float()[None],
            logits=painted,
        )
