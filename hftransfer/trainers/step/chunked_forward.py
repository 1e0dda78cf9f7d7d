"""Large batches on little memory: the model runs on a few rows at a time, and runs again on them for the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Outputs = tuple[torch.Tensor, dict[str, torch.Tensor]]


def in_chunks(forward: Callable[[dict[str, Any]], Outputs], inputs: dict[str, Any], rows: int) -> Outputs:
    """What `forward` makes of all rows, from `rows` at a time.

    Only logits and features of the whole batch are kept, and the activations of one piece at a time: every piece runs
    once more in the backward pass, with the random numbers of the first time. The gradient is exact, for terms that
    couple all rows as well: what Gao et al. (Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
    2021) do for contrastive losses by a cache of gradients.

    Args:
        forward: model inputs -> logits and further tensors by name, all with rows first.
        inputs: model inputs; those that are not tensors, or of no rows, go to every piece.
        rows: of a piece.
    """
    total = next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
    if total <= rows:
        return forward(inputs)
    pieces = []
    for start in range(0, total, rows):
        part = {
            k: v[start : start + rows] if isinstance(v, torch.Tensor) and v.ndim and len(v) == total else v
            for k, v in inputs.items()
        }
        pieces.append(checkpoint(forward, part, use_reentrant=False))
    found = {name: torch.cat([more[name] for _, more in pieces]) for name in pieces[0][1]}
    return torch.cat([logits for logits, _ in pieces]), found


def check_chunks(model: nn.Module, rows: int | None, batch_norm: str) -> None:
    """Raises a `ValueError` for a model whose rows cannot run apart."""
    moving = [n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if rows is not None and moving and batch_norm != "frozen":
        raise ValueError(
            f"forward_rows={rows} runs a batch in pieces, and the statistics of batch norm ({moving[0]}) would be "
            "those of pieces. Set batch_norm='frozen', or leave forward_rows out."
        )
