"""Adversarial objectives' shared functions: gradient reversal, the discriminator, and losses that weigh their rows."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..ignored_label import IGNORE
from .base import Objective, Range, check_count
from .kernels import LEAST_MASS

SEARCH: dict[str, Range | tuple[Any, ...]] = {
    "weight": Range(0.01, 1.0, log=True),
    "hidden": (64, 256, 1024),
    "depth": (1, 2, 3),
}


class _Reverse(torch.autograd.Function):
    """Autograd function of the gradient reversal."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(strength)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (strength,) = ctx.saved_tensors
        return -strength.to(grads[0].dtype) * grads[0], None


def reverse_gradient(x: torch.Tensor, strength: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Gradient reversal: identity forward; the gradient comes back times `-strength` (a tensor, so a compiled model
    stays compiled)."""
    return _Reverse.apply(x, torch.as_tensor(strength, dtype=x.dtype, device=x.device))


class _GroupLinear(nn.Module):
    """Linear layers side by side: (rows, width) or (rows, groups, width) -> (rows, groups, outputs)."""

    def __init__(self, groups: int, width: int, outputs: int):
        super().__init__()
        bound = 1 / math.sqrt(width)  # as in `nn.Linear`
        self.weight = nn.Parameter(torch.empty(groups, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, outputs).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = "rgi" if x.ndim == 3 else "ri"
        return torch.einsum(f"{rows},gio->rgo", x, self.weight) + self.bias


class Discriminator(nn.Sequential):
    """Domain discriminator: a small MLP, (rows, width) -> (rows,) logits, positive for source. All adversarial
    objectives use it: with more `outputs` as a classifier, (rows, outputs), and with `groups` as that many MLPs at
    once, (rows, groups).

    No batch norm and no dropout: the first mixes the domains' statistics and gives the answer away, the second
    makes processes differ.
    """

    def __init__(self, width: int, hidden: int = 256, depth: int = 2, outputs: int = 1, groups: int = 0):
        check_count("hidden", hidden)
        check_count("depth", depth, least=0)
        linear = partial(_GroupLinear, groups) if groups else nn.Linear
        blocks: list[nn.Module] = []
        for i in range(depth):
            blocks += [linear(width if i == 0 else hidden, hidden), nn.ReLU()]
        output_layer = linear(hidden if depth else width, outputs)
        super().__init__(*blocks, output_layer, nn.Flatten(1 if groups or outputs > 1 else 0))

    def input_gradient(self, x: torch.Tensor) -> torch.Tensor:
        """Gradient of each row's one output with respect to that row, (rows, width) -> (rows, width).

        Written out layer by layer, so that a loss on it needs one backward pass and no second derivative: the ReLUs'
        on-off pattern is all that depends on x, and it is constant almost everywhere.
        """
        *hidden, output_layer = (layer for layer in self if isinstance(layer, nn.Linear))
        patterns = []
        for layer in hidden:
            x = layer(x).relu()
            patterns.append(x > 0)
        gradient = output_layer.weight.expand(len(x), -1)
        for layer, pattern in zip(reversed(hidden), reversed(patterns), strict=True):
            gradient = (gradient * pattern) @ layer.weight
        return gradient


def normalized_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights divided by their mean, so that they sum to their number; without gradient. Zeros stay zeros."""
    weights = weights.detach()
    return weights / weights.mean().clamp_min(LEAST_MASS)


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean, Σ w·v / Σ w: a weight of 2 is that row twice. 0 if nothing has weight."""
    return (normalized_weights(weights) * values).mean()


def domain_loss(
    source: torch.Tensor,
    target: torch.Tensor,
    source_weights: torch.Tensor | float = 1.0,
    target_weights: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Domain classification loss on logits, ½(BCE(source, 1) + BCE(target, 0)), each domain averaged by itself
    (weights sum to its rows)."""
    s, t = -F.logsigmoid(source), -F.logsigmoid(-target)
    return ((source_weights * s).mean() + (target_weights * t).mean()) / 2


@torch.no_grad()
def domain_accuracy(
    source: torch.Tensor,
    target: torch.Tensor,
    source_weights: torch.Tensor | float = 1.0,
    target_weights: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Domain classification accuracy on logits, ½(share of source above 0 + share of target not above 0), with the
    weights of `domain_loss`; ½ is chance."""
    s, t = (source > 0).float(), (target <= 0).float()
    return ((source_weights * s).mean() + (target_weights * t).mean()) / 2


class DomainGame(Objective):
    """Objective whose discriminator plays against the encoder; it keeps the discriminator's accuracy for the log."""

    def domain_loss(
        self,
        source: torch.Tensor,
        target: torch.Tensor,
        source_weights: torch.Tensor | float = 1.0,
        target_weights: torch.Tensor | float = 1.0,
    ) -> torch.Tensor:
        """As the function `domain_loss`; the accuracy on these rows is `domain_accuracy` until the next call."""
        self.domain_accuracy = domain_accuracy(source, target, source_weights, target_weights)
        return domain_loss(source, target, source_weights, target_weights)


def weighted_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy of the rows that have a label; 0 if none has."""
    error = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return weighted_mean(error, weights * (labels >= 0))
