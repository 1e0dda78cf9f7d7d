"""Per-domain forward: source and target rows one after the other, each domain as wide as its own longest row."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...models.batch_norm_statistics import batch_norms, running_statistics_kept
from ..batch_rows import BatchRows, Span, has_rows
from .feature_forward import Forward, ForwardOutputs


class PerDomainForward:
    """Forward of the source rows and one of the others.

    Batch norm sees each domain by itself, and neither has the other's padding. Outputs are as wide as the batch
    again, with zeros where padding was left out.

    Inputs that are not tensors, or of no rows, go to both.

    Args:
        forward: of the rows of one domain.
        target_statistics: batch norm's running statistics are the target's alone: the source's forward records none.
    """

    def __init__(self, forward: Forward, target_statistics: bool = False):
        self.forward, self.target_statistics = forward, target_statistics

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        if rows.num_source == rows.total:
            return self.forward(model, inputs, rows)
        length = next(len(v) for v in inputs.values() if isinstance(v, torch.Tensor))
        source, other_rows = (
            {k: v[domain_rows] if has_rows(v, length) else v for k, v in inputs.items()}
            for domain_rows in (slice(0, rows.num_source), slice(rows.num_source, None))
        )
        source_span, others_span = rows.spans if rows.spans is not None else (None, None)
        with running_statistics_kept(model) if self.target_statistics else nullcontext():
            source_outputs = self._trimmed(model, source, rows, source_span)
        return ForwardOutputs.cat([source_outputs, self._trimmed(model, other_rows, rows, others_span)])

    def _trimmed(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows, span: Span | None) -> ForwardOutputs:
        """Forward of the positions of a span; outputs are padded with zeros to all positions."""
        if span is None or "attention_mask" not in inputs:
            return self.forward(model, inputs, rows)
        (start, stop), width = span, inputs["attention_mask"].shape[1]
        cut = {
            k: v[:, start:stop] if isinstance(v, torch.Tensor) and v.ndim > 1 and v.shape[1] == width else v
            for k, v in inputs.items()
        }
        left_right = (start, width - stop)
        return self.forward(model, cut, rows).map(
            lambda x: F.pad(x, (0, 0, *left_right)) if x.ndim == 3 else x,  # (rows, positions, …), or a vector a row
            lambda x: F.pad(x, left_right * 2),  # (rows, heads, positions, positions)
        )


def check_per_domain(model: nn.Module, per_domain: bool, batch_norm: str) -> None:
    """Check that no batch norm needs both domains together; raises `ValueError`."""
    names = list(batch_norms(model))
    if per_domain and batch_norm not in ("frozen", "separate") and names:
        raise ValueError(
            f"forward_by_domain=True runs each domain by itself, and batch_norm={batch_norm!r} wants both together "
            f"in {names[0]}. Set batch_norm='separate' or 'frozen', or leave forward_by_domain out."
        )
