"""Pooling of hidden states: one vector a row, or one a word."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any, Literal, get_args

import torch

from ..messages import nearest, shown

Pooling = Literal["mean", "cls", "max", "last", "token", "head", "pooler"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def check_poolings(poolings: Any, layers: Any) -> tuple[tuple[Pooling, ...], tuple[int, ...]]:
    """Poolings and layers as tuples, each of them known.

    Args:
        poolings: a name or several.
        layers: a number or several.

    Raises:
        ValueError: an unknown pooling, one twice, `"token"` beside another, `"head"` or `"pooler"` of an
            inner layer.
        TypeError: a pooling that is no name, a layer that is no integer.
    """
    if not isinstance(poolings, Iterable):
        raise TypeError(f"pooling={shown(poolings)} must be one or several of {', '.join(POOLINGS)}.")
    names = (poolings,) if isinstance(poolings, str) else tuple(poolings)
    numbers = (layers,) if isinstance(layers, str) or not isinstance(layers, Iterable) else tuple(layers)
    for name in names:
        if name not in POOLINGS:
            raise ValueError(f"pooling={name!r} must be one of {', '.join(POOLINGS)}.{nearest(name, POOLINGS)}")
    for number in numbers:
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"layer={number!r} must be an integer: 0 the embeddings, 1 the first layer, -1 the last.")
    if not names or not numbers or len(set(names)) < len(names) or len(set(numbers)) < len(numbers):
        raise ValueError(f"pooling={poolings!r} and layer={layers!r} must each name one or several, none twice.")
    if "token" in names and len(names) > 1:
        raise ValueError('pooling="token" gives a vector a word, and others one a row: ask for it alone.')
    for name, what in (("head", "what the model's last layer reads"), ("pooler", "the model's own pooled output")):
        if name in names and numbers != (-1,):
            raise ValueError(f'pooling="{name}" is {what}: leave `layer` out.')
    return names, tuple(int(number) for number in numbers)


def pool(hidden: torch.Tensor, mask: torch.Tensor | None, pooling: Pooling) -> torch.Tensor:
    """Hidden states of a batch, pooled in single precision.

    Args:
        hidden: (rows, tokens, width) of text or patches, (rows, channels, height, width) of a convolutional network.
        mask: (rows, tokens), 1 where there is no padding; `None` where there is none at all.
        pooling: `"mean"`, `"max"`, `"cls"` (the first token) or `"last"` (the last token), padding aside.

    Returns:
        (rows, width).

    Raises:
        ValueError: a first or last token of a feature map, which has none.

    Example:
        >>> hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]])
        >>> pool(hidden, torch.tensor([[1, 1, 0]]), "mean")
        tensor([[2., 4.]])
    """
    hidden = hidden.float()
    if hidden.ndim == 4:
        if pooling in ("cls", "last"):
            raise ValueError(
                f'pooling={pooling!r} takes one token, and this model has feature maps: take "mean" or "max".'
            )
        hidden, mask = hidden.flatten(2).transpose(1, 2), None
    elif hidden.ndim != 3:
        raise ValueError(f"The model's hidden states have {hidden.ndim} dimensions, where 3 or 4 can be pooled.")
    if mask is None or mask.shape != hidden.shape[:2]:
        mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    if pooling == "mean":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, 0).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
    if pooling == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    chosen = mask.argmax(1) if pooling == "cls" else (positions * mask).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), chosen]
