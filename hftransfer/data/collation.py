"""Rows become one padded batch; source and target halves are stacked, and the model sees them in one forward."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import DataCollatorWithPadding

from .labels import IGNORE, LabelSpace
from .pairing import TARGET
from .text import LENGTH, WORD_MASK

NUM_SOURCE = "num_source"


class AdaptationCollator:
    """Pads to the longest row and stacks.

    A training batch (its rows carry `domain`) comes out with `domain` `(rows,)` (-1 for the target), `num_source`
    (int: how many leading rows are source) and `labels` that hold "no label" on unlabelled rows. A batch without
    `domain` is an ordinary evaluation batch.

    Args:
        tokenizer: pads the model inputs.
        space: decides how labels are stacked.
        pad_to_multiple_of: for tensor cores and compiled models.
    """

    def __init__(self, tokenizer: Any, space: LabelSpace, pad_to_multiple_of: int | None = None):
        self.pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)
        self.tokenizer, self.space = tokenizer, space

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [dict(row) for row in rows]
        if "pair" in rows[0]:  # a stream yields (source row, target rows)
            pairs = [row["pair"] for row in rows]
            rows = [dict(s) for s, _ in pairs] + [dict(t) for _, ts in pairs for t in ts]
        training = "domain" in rows[0]
        labelled = any("labels" in row for row in rows)
        labels = [row.pop("labels", None) for row in rows]
        masks = [row.pop(WORD_MASK, None) for row in rows]
        domain = [row.pop("domain", None) for row in rows]
        for row in rows:
            row.pop(LENGTH, None)
        batch = dict(self.pad(rows))
        width = batch["input_ids"].shape[1]
        if self.space.task == "token-classification":
            left = self.tokenizer.padding_side == "left"
            if any(m is not None for m in masks):
                batch[WORD_MASK] = torch.tensor([_pad(m or [], width, 0, left) for m in masks])
            if labelled:
                batch["labels"] = torch.tensor([_pad(y or [], width, IGNORE, left) for y in labels])
        elif labelled:
            missing = self.space.missing
            values = [missing if y is None or y is math.nan else y for y in labels]
            batch["labels"] = torch.tensor(values, dtype=torch.float32 if self.space.is_float else torch.long)
        if training:
            batch["domain"] = torch.tensor(domain)
            batch[NUM_SOURCE] = sum(d != TARGET for d in domain)
        return batch


def _pad(values: list[int], width: int, fill: int, left: bool) -> list[int]:
    padding = [fill] * (width - len(values))
    return padding + values if left else values + padding
