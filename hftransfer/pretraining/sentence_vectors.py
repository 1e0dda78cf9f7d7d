"""Sentence vectors: one vector for each text of a batch, and which pooling a checkpoint was trained for."""

from __future__ import annotations

import json
from typing import Any, Literal

import torch
from transformers.utils import cached_file

from ..models.pretrained import local_folder
from .packing import PADDING, row_means

SentencePooling = Literal["mean", "cls"]
POOLING_FILE = "1_Pooling/config.json"  # of sentence-transformers
KEYS: dict[str, SentencePooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def row_vectors(hidden: torch.Tensor, segments: torch.Tensor, rows: int, pooling: SentencePooling) -> torch.Tensor:
    """Vector of each row: the mean of its hidden states, or that of its first token. Shapes: (sequences, width, d),
    (sequences, width) -> (rows, d).

    Args:
        hidden: last hidden states.
        segments: row of each position, -1 for padding.
        rows: how many there are.
        pooling: `"mean"` or `"cls"`.

    Example:
        >>> hidden, segments = torch.tensor([[[1.0], [3.0], [8.0], [5.0]]]), torch.tensor([[0, 0, 1, -1]])
        >>> row_vectors(hidden, segments, 2, "cls").flatten().tolist()
        [1.0, 8.0]
    """
    if pooling == "mean":
        return row_means(hidden, segments, rows)
    row = segments.reshape(-1)
    bins = torch.where(row == PADDING, rows, row)  # one more than there are rows takes the padding
    places = torch.arange(len(row), device=row.device)
    first = torch.full((rows + 1,), len(row) - 1, device=row.device).scatter_reduce(0, bins, places, "amin")
    return hidden.reshape(-1, hidden.shape[-1])[first[:rows]]


def declared_pooling(name: str, revision: str | None = None) -> SentencePooling | None:
    """Pooling that a checkpoint of sentence-transformers declares.

    Args:
        name: Hub id or folder.
        revision: branch, tag or commit on the Hub.

    Returns:
        `None` where it declares none, or one that is neither the mean nor the first token.
    """
    try:
        path = cached_file(local_folder(name, revision) or name, POOLING_FILE, revision=revision)
        declared: Any = json.loads(open(path, encoding="utf-8").read()) if path else {}
    except (OSError, ValueError):
        return None
    modes = [mode for key, mode in KEYS.items() if declared.get(key)]
    others = [key for key, value in declared.items() if key.startswith("pooling_mode_") and value is True]
    if declared.get("pooling_mode") in ("mean", "cls"):
        return declared["pooling_mode"]
    return modes[0] if len(others) == 1 and modes else None
