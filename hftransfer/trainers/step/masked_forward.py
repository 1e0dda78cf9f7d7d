"""Masked forward: the target rows once more, with words hidden, and the states at the hidden words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from ...data.token_words import TokenWords
from ...data.word_masking import WordMasking
from ...models.masked_language_head import find_backbone
from ...objectives.base import MaskedTokens
from ...objectives.gathered_rows import gather_rows, num_processes

IDS, MASK = "input_ids", "attention_mask"
SHARDED = (
    "masked_lm reads the word embeddings outside the model's own forward, where FSDP and DeepSpeed keep shards of "
    "them. Run it under DDP, or on one process."
)


class WordHiding:
    """Whole-word masking of batches of token ids.

    Which words of a row are masked is a function of the number and of its tokens.

    Args:
        tokenizer: with a mask token.

    Raises:
        ValueError: it has none.
    """

    def __init__(self, tokenizer: Any):
        self.masking = WordMasking.for_tokenizer(tokenizer)
        self.words = TokenWords(tokenizer)

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, number: int, probability: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows with words masked.

        Args:
            input_ids, attention_mask: (m, tokens).
            number: of the call.
            probability: of a word to be masked.

        Returns:
            (m, tokens) ids to read; (k,) masked positions, row * tokens + token; (k,) ids that stood there.
        """
        ids, real = input_ids.cpu().numpy().copy(), attention_mask.cpu().numpy() > 0
        positions, labels = [], []
        for row, (tokens, seen) in enumerate(zip(ids, real, strict=True)):
            places = np.flatnonzero(seen)
            words = self.words(tokens[places].tolist())
            rates = np.full(int(words.max(initial=-1)) + 1, probability)
            rng = np.random.default_rng([number, *tokens[places].tolist()])
            masked = self.masking(tokens[places], words, rng, rates)
            tokens[places] = masked.input_ids
            positions.append(row * ids.shape[1] + places[masked.positions])
            labels.append(masked.labels)
        found = (ids, np.concatenate(positions), np.concatenate(labels))
        read, at, stood = (torch.as_tensor(x, dtype=torch.long, device=input_ids.device) for x in found)
        return read.to(input_ids.dtype), at, stood


class MaskedTargetForward:
    """Forward of target rows with words masked. See `objectives.base.MaskedForward`.

    Args:
        model: plain or PEFT-wrapped.
        hiding: masks words.
        inputs: model inputs of the rows.
        autocast: the run's precision, which objectives are kept out of; `None` without autocast.
        release_hooks: called after each forward, to let go of what feature hooks keep.

    Raises:
        ValueError: the model is sharded by FSDP2.
    """

    def __init__(
        self,
        model: nn.Module,
        hiding: WordHiding,
        inputs: dict[str, Any],
        autocast: torch.dtype | None,
        release_hooks: Callable[[], Any],
    ):
        if any(isinstance(module, FSDPModule) for module in model.modules()):
            raise ValueError(SHARDED)
        self.model, self.hiding, self.inputs, self.autocast = model, hiding, inputs, autocast
        self.release_hooks = release_hooks

    def __call__(self, number: int, probability: float) -> MaskedTokens:
        ids = self.inputs[IDS]
        mask = self.inputs.get(MASK, torch.ones_like(ids))
        read, positions, labels = self.hiding(ids, mask, number, probability)
        with torch.autocast(ids.device.type, self.autocast, enabled=self.autocast is not None):
            hidden = last_hidden_states(self.model, self.inputs | {IDS: read})
        self.release_hooks()
        total = gather_rows(torch.tensor([float(len(labels))], device=ids.device)).sum().clamp_min(1)
        embeddings: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        states = hidden.flatten(0, 1)[positions].float()
        return MaskedTokens(states, labels, embeddings.weight.float(), total / num_processes())


def last_hidden_states(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """Last hidden states of the backbone, (rows, tokens, d), while the whole model runs.

    Raises:
        ValueError: they are not one for each token.
    """
    backbone, kept = find_backbone(model), []
    assert backbone is not None
    hook = backbone.register_forward_hook(lambda module, args, output: kept.append(output[0]))
    try:
        model(**inputs)
    finally:
        hook.remove()
    hidden = kept[-1]
    if hidden.shape[:2] != inputs[IDS].shape:
        raise ValueError(
            f"masked_lm predicts words at their tokens, and this model has states of shape {tuple(hidden.shape)} for "
            f"{tuple(inputs[IDS].shape)} tokens. Prompt and prefix adapters add some: use LoRA, or no adapter."
        )
    return hidden
