"""Source and target rows through the model one after the other, each as wide as its own longest row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...models.norm_statistics import batch_norms
from ..teachers.layer_pairs import ATTENTION
from .chunked_forward import Outputs

Span = tuple[int, int]  # the first position that some row uses, and the one after the last


def in_turn(
    forward: Callable[[dict[str, Any]], Outputs],
    inputs: dict[str, Any],
    n: int,
    spans: Sequence[Span] | None = None,
    while_source: AbstractContextManager = nullcontext(),  # noqa: B008 (does nothing, so it may be shared)
) -> Outputs:
    """What `forward` makes of the first `n` rows, and then of the others, as if of all at once.

    Args:
        forward: model inputs -> logits and further tensors by name, all with rows first.
        inputs: model inputs; those that are not tensors, or of no rows, go to both.
        n: how many rows come first.
        spans: which positions of the source's rows and of the others are not padding; `None` leaves them as they are.
            What comes out is as wide as the batch again, with zeros where padding was left out.
        while_source: entered around the first forward.
    """
    total = next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
    width = inputs["attention_mask"].shape[1] if spans is not None and "attention_mask" in inputs else None
    outs: list[Outputs] = []
    for i, part in enumerate((slice(0, n), slice(n, None))):
        half = {k: v[part] if is_rows(v, total) else v for k, v in inputs.items()}
        with nullcontext() if outs else while_source:
            outs.append(forward(half) if width is None else _trimmed(forward, half, spans[i], width))  # type: ignore[index]
    (logits, found), (more_logits, more) = outs
    return torch.cat([logits, more_logits]), {k: torch.cat([v, more[k]]) for k, v in found.items()}


def check_turns(model: nn.Module, by_domain: bool, batch_norm: str) -> None:
    """Raises a `ValueError` for batch norms that are to see both domains together and could not."""
    if by_domain and batch_norm not in ("frozen", "separate") and (found := list(batch_norms(model))):
        raise ValueError(
            f"forward_by_domain=True runs each domain by itself, and batch_norm={batch_norm!r} wants both together "
            f"in {found[0]}. Set batch_norm='separate' or 'frozen', or leave forward_by_domain out."
        )


def _trimmed(forward: Callable[[dict[str, Any]], Outputs], inputs: dict[str, Any], span: Span, width: int) -> Outputs:
    """Runs only the positions of a span; what has positions is given the others back, as zeros."""
    start, stop = span
    cut = {
        k: v[:, start:stop] if isinstance(v, torch.Tensor) and v.ndim > 1 and v.shape[1] == width else v
        for k, v in inputs.items()
    }
    logits, found = forward(cut)
    beside = (start, width - stop)

    def widened(x: torch.Tensor, attention: bool = False) -> torch.Tensor:
        if attention:  # (rows, heads, positions, positions)
            return F.pad(x, beside * 2)
        return F.pad(x, (0, 0, *beside)) if x.ndim == 3 else x  # (rows, positions, …), or one vector a row

    return widened(logits), {k: widened(v, k == ATTENTION) for k, v in found.items()}


def is_rows(value: Any, rows: int) -> bool:
    """Whether a batch's entry holds so many rows."""
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == rows
