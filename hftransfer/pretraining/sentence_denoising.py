"""Sentence denoising (TSDAE): a text is written anew from the vector of what is left of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..models.masked_language_head import MaskedLanguageHead, masked_loss
from .sentence_vectors import SentencePooling, row_vectors


class SentenceDenoising(nn.Module):
    r"""Reconstruction of texts from the vectors of their remains.

    \[
        L = -\sum_i \sum_{t=2}^{l_i} \log p_\theta(x_{i,t} \mid x_{i,<t},\, e(\tilde x_i))
    \]

    for the tokens \(x_{i,1}, \dots, x_{i,l_i}\) of text \(i\), which begin and end with the tokenizer's own, what is
    left of it when a share of its words is deleted, \(\tilde x_i\), and the vector \(e\) that the encoder makes of
    that. A decoder predicts the tokens from left to right, and all that it sees of the encoder is this one vector; so
    the vector must hold the text.

    The state of this module is what is the decoder's own: weights that it shares with the encoder are saved there.

    Args:
        decoder: from `make_decoder`.
        shared: parameters of the model that is pre-trained.
        probe: inputs of the decoder: `input_ids`, `attention_mask`, and `encoder_hidden_states` of one vector a row.
        pooling: of a row's hidden states.

    Paper: Wang, Reimers and Gurevych, TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for
    Unsupervised Sentence Embedding Learning, Findings of EMNLP 2021.
    """

    def __init__(
        self, decoder: Any, shared: Any, probe: dict[str, torch.Tensor], pooling: SentencePooling = "mean"
    ) -> None:
        super().__init__()
        self.decoder, self.pooling = decoder, pooling
        self._head = MaskedLanguageHead(decoder, probe)
        taken = {id(p) for p in shared}
        self._own = {f"decoder.{name}" for name, p in decoder.named_parameters() if id(p) not in taken}
        self.register_state_dict_post_hook(_keep_own)

    @property
    def own_parameters(self) -> int:
        """How many weights are the decoder's alone."""
        return sum(p.numel() for name, p in self.named_parameters() if name in self._own)

    def forward(
        self,
        hidden: torch.Tensor,
        segments: torch.Tensor,
        rows: int,
        text_ids: torch.Tensor,
        text_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum over the tokens, and the vectors.

        Args:
            hidden: (sequences, width, d) the encoder's last hidden states, of what is left of the texts.
            segments: (sequences, width) row of each position, -1 for padding.
            rows: how many texts there are.
            text_ids: (rows, longest) tokens of the whole texts, padded.
            text_positions: (tokens,) of the tokens to read in the texts but for their last column, laid end to end.

        Returns:
            (), (rows, d).
        """
        vectors = row_vectors(hidden, segments, rows, self.pooling)
        read, written = text_ids[:, :-1], text_ids[:, 1:]
        seen = torch.zeros(read.numel(), dtype=torch.long, device=read.device)
        seen[text_positions] = 1
        inputs = {
            "input_ids": read,
            "attention_mask": seen.reshape(read.shape),
            "encoder_hidden_states": vectors.unsqueeze(1),
        }
        logits, _ = self._head(inputs, text_positions)
        return masked_loss(logits, written.reshape(-1)[text_positions]), vectors


def _keep_own(module: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    """A state without the weights that are the encoder's, and without second names of the same weight."""
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name in names - module._own:
        state.pop(f"{prefix}{name}", None)
