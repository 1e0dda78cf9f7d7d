"""Wrapper of a model in pre-training: what `Trainer` sees, and what a forward of it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils import ModelOutput

from ..models.adapters import is_peft
from ..models.freezing import frozen_modules


@dataclass
class PretrainingOutput(ModelOutput):
    """Output of a `WrappedModel`.

    Attributes:
        loss: weighted sum, to train on.
        losses: (losses,) each by itself, detached: a mean over what was masked, means over rows. In evaluation,
            without the contrast.
        largest_values: (values,) as `WrappedModel.value_names` calls them, detached.
        logits: predictions at masked places: (masked, vocabulary) of words, (rows, channels, side, side) of images;
            without masked words, the hidden states or the sentence vectors.
    """

    loss: torch.Tensor | None = None
    losses: torch.Tensor | None = None
    largest_values: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class WrappedModel(nn.Module):
    """The user's model, and whatever its attributes are; frozen parts of it stay in evaluation mode.

    Args:
        model: PEFT-wrapped or not.

    Attributes:
        value_names: of the largest values that a forward gives, for messages.
    """

    accepts_loss_kwargs = False  # for transformers' Trainer: this loss is a per-batch mean of its own
    value_names: tuple[str, ...] = ("hidden states", "logits")

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def train(self, mode: bool = True) -> WrappedModel:
        """As in any module, but frozen modules stay in evaluation mode; an adapter's base keeps its dropout."""
        super().train(mode)
        if mode and not is_peft(self.model):
            for module in frozen_modules(self.model):
                module.eval()
        return self

    @property
    def loss_names(self) -> list[str]:
        """Names of the losses of a forward."""
        raise NotImplementedError

    @property
    def loss_names_in_evaluation(self) -> list[str]:
        """Names of the losses of a forward in evaluation mode."""
        return self.loss_names

    @property
    def measured(self) -> dict[str, int]:
        """Losses that are measured on held-out rows, and which of the counts of `count_items` each is a mean over; the
        first count is that of what was masked."""
        return {self.loss_names[0]: 0}

    def count_items(self, batch: dict[str, Any]) -> tuple[int, ...]:
        """What a batch's losses are means over: what was masked in it, its rows, and other things."""
        raise NotImplementedError
