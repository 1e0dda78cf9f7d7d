"""Rows gathered from all processes, with gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class _GatherRows(torch.autograd.Function):
    """All-gather with gradient: backward sums what every process sends to a row and returns it to its owner.

    With DDP's mean over processes this is exact both when every process computes the loss of the global batch and
    when each computes only its share of a sum.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)  # autograd may hand the same tensor to others
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all processes in rank order, (n, …) of this process -> (processes·n, …). Every process must bring the
    same shape.

    Without a process group the tensor itself comes back.
    """
    return _GatherRows.apply(rows) if num_processes() > 1 else rows


def num_processes() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
