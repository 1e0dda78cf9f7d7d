"""What the adversarial objectives share: gradient reversal, a discriminator, a domain loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .base import check_count


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(strength)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (strength,) = ctx.saved_tensors
        return -strength.to(grads[0].dtype) * grads[0], None


def reverse_gradient(x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Identity forward; the gradient comes back times `-strength` (a tensor, so a compiled model stays compiled)."""
    return _Reverse.apply(x, strength)


class Discriminator(nn.Sequential):
    """A small MLP that tells source from target: (rows, width) -> (rows,) logits, positive for source.

    No batch norm and no dropout: the first mixes the domains' statistics and gives the answer away, the second
    makes processes differ.
    """

    def __init__(self, width: int, hidden: int = 256, depth: int = 2):
        check_count("hidden", hidden)
        check_count("depth", depth, least=0)
        blocks: list[nn.Module] = []
        for i in range(depth):
            blocks += [nn.Linear(width if i == 0 else hidden, hidden), nn.ReLU()]
        super().__init__(*blocks, nn.Linear(hidden if depth else width, 1), nn.Flatten(0))


def domain_loss(
    source: torch.Tensor,
    target: torch.Tensor,
    source_weights: torch.Tensor | None = None,
    target_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """½(BCE(source, 1) + BCE(target, 0)) on logits, each domain averaged by itself (weights sum to its rows)."""
    s = F.binary_cross_entropy_with_logits(source, torch.ones_like(source), weight=source_weights)
    t = F.binary_cross_entropy_with_logits(target, torch.zeros_like(target), weight=target_weights)
    return (s + t) / 2
