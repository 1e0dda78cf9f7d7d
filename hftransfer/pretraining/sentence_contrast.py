"""Sentence contrast (SimCSE): a text is recognised among others by a reading of it under another dropout mask."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..models.adapters import plain_model
from ..objectives.contrastive import contrastive_loss
from ..objectives.gathered_rows import gather_rows
from .plain_encoder import encoder_of
from .sentence_vectors import SentencePooling, row_vectors


class SentenceContrast:
    r"""Contrast of two readings of each text, which differ by their dropout masks alone.

    \[
        L = -\frac1n \sum_i \log \frac{\exp(\cos(u_i, v_i) / \tau)}{\sum_j \exp(\cos(u_i, v_j) / \tau)}
    \]

    for the vector \(u_i\) of row \(i\) (the mean of its last hidden states, or its first token's) and that of a second
    forward of the same row, \(v_i\). The other rows are those of the batch on all processes. A model that tells
    nothing apart scores \(\log n\). The paper reads whole texts, as here without masked words; beside them, the first
    forward is the one that predicts them, and both readings see the text with some words masked.

    Args:
        model: an `AutoModelForMaskedLM` or an encoder, PEFT-wrapped or not.
        temperature: \(\tau\); 0.05 in the paper.
        pooling: of a row's hidden states.

    Raises:
        ValueError: the model has no backbone apart from its head, or no dropout.

    Paper: Gao, Yao and Chen, SimCSE: Simple Contrastive Learning of Sentence Embeddings, EMNLP 2021.
    """

    def __init__(self, model: Any, temperature: float = 0.05, pooling: SentencePooling = "mean"):
        inner = plain_model(model)
        if encoder_of(model) is None:
            raise ValueError(
                f"sentence_contrast needs a model whose head stands apart from its backbone, which "
                f"{type(inner).__name__} does not say. Leave it out."
            )
        rates = {k: v for k, v in vars(inner.config).items() if "dropout" in k and isinstance(v, (int, float))}
        if not any(rate > 0 for name, rate in rates.items() if "classifier" not in name):
            raise ValueError(
                f"sentence_contrast compares two readings of a text under different dropout, and this "
                f"{type(inner).__name__} has none. Load it with some, such as "
                f"model_kwargs={{{next(iter(sorted(rates)), 'hidden_dropout_prob')!r}: 0.1}}, or leave it out."
            )
        self.temperature, self.pooling = temperature, pooling

    def __call__(
        self, model: Any, inputs: dict[str, Any], hidden: torch.Tensor, segments: torch.Tensor, rows: int
    ) -> torch.Tensor:
        """Mean over the rows of all processes.

        Args:
            model: the one that trains.
            inputs: of the model.
            hidden: (sequences, width, d) its last hidden states, of a first forward.
            segments: (sequences, width) row of each position, -1 for padding.
            rows: how many there are; the same number on every process.
        """
        again = encoder_of(model)(**inputs)[0]
        first, second = (row_vectors(states, segments, rows, self.pooling) for states in (hidden, again))
        return two_reading_loss(gather_rows(first), gather_rows(second), self.temperature)


def two_reading_loss(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Contrast of two readings of the same rows, in float32 or what is wider. Shapes: (n, d), (n, d) -> ().

    Example:
        >>> two_reading_loss(torch.eye(3), torch.eye(3), 0.05)  # recognised at once
        tensor(0.)
        >>> two_reading_loss(torch.ones(4, 2), torch.ones(4, 2), 0.05)  # log 4: nothing is told apart
        tensor(1.3863)
    """
    with torch.autocast(first.device.type, enabled=False):
        u, v = (F.normalize(x.float() if x.dtype != torch.float64 else x, dim=-1) for x in (first, second))
        return contrastive_loss(u, v, v, temperature).mean()
