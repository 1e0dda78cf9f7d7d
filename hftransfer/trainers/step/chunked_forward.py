"""Chunked forward: large batches on little memory, by running the model on a few rows at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..batch_rows import BatchRows, has_rows
from .feature_forward import Forward, ForwardOutputs


class ChunkedForward:
    """Forward of all rows, a chunk at a time.

    Only logits and features of the whole batch are kept, and the activations of one chunk at a time: every chunk runs
    once more in the backward pass, with the random numbers of the first time. The gradient is exact, for terms that
    couple all rows as well: what Gao et al. (Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
    2021) do for contrastive losses by a cache of gradients.

    Inputs that are not tensors, or of no rows, go to every chunk.

    Args:
        forward: of a chunk.
        chunk_rows: rows of a chunk.
    """

    def __init__(self, forward: Forward, chunk_rows: int):
        self.forward, self.chunk_rows = forward, chunk_rows

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        total = next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
        if total <= self.chunk_rows:
            return self.forward(model, inputs, rows)
        outputs = []
        for start in range(0, total, self.chunk_rows):
            chunk = {k: v[start : start + self.chunk_rows] if has_rows(v, total) else v for k, v in inputs.items()}
            outputs.append(checkpoint(self.forward, model, chunk, rows, use_reentrant=False))
        return ForwardOutputs.cat(outputs)


def check_chunks(model: nn.Module, chunk_rows: int | None, batch_norm: str) -> None:
    """Check that a model's rows can run apart; raises `ValueError`."""
    batch_norms = [n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if chunk_rows is not None and batch_norms and batch_norm != "frozen":
        raise ValueError(
            f"forward_rows={chunk_rows} runs a batch in pieces, and the statistics of batch norm ({batch_norms[0]}) "
            "would be those of pieces. Set batch_norm='frozen', or leave forward_rows out."
        )
