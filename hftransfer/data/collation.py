"""Collator of training batches: source and target rows stacked, for one forward of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..ignored_label import IGNORE
from .encoder import Encoder
from .label_space import LabelSpace
from .pairing import DRAW, FROZEN_STATES, TARGET
from .soft_label_column import SOFT_LABELS
from .text_encoder import WORD_MASK, pad_row
from .weight_column import ROW_WEIGHT, ROW_WEIGHTS

NUM_SOURCE, SPANS = "num_source", "spans"


class AdaptationCollator:
    """Collator that stacks encoded rows and their labels.

    A training batch (its rows carry `domain`) comes out with `domain` `(rows,)` (-1 for the target), `num_source`
    (int: how many leading rows are source) and `labels` that hold "no label" on unlabelled rows. A batch without
    `domain` is an ordinary evaluation batch, of which nothing is changed at random.

    Args:
        encoder: stacks the model inputs.
        space: decides how labels are stacked.
        two_views: the model inputs of a training batch hold the target rows once more, after all rows, under another
            draw. Only where the encoder draws: without, a model's dropout is what tells two views apart.
        by_domain: a training batch of padded rows says under `spans` which positions its source rows use, and which
            the others.
        weighs_rows: a training batch says under `row_weights` what each row counts, `(rows,)`: 1 where a row says
            nothing.
    """

    def __init__(
        self,
        encoder: Encoder,
        space: LabelSpace,
        two_views: bool = False,
        by_domain: bool = False,
        weighs_rows: bool = False,
    ):
        self.encoder, self.space, self.weighs_rows = encoder, space, weighs_rows
        self.two_views, self.by_domain = two_views and encoder.draws, by_domain

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [dict(row) for row in rows]
        if "pair" in rows[0]:  # a stream yields (source row, target rows)
            pairs = [row["pair"] for row in rows]
            rows = [dict(s) for s, _ in pairs] + [dict(t) for _, ts in pairs for t in ts]
        training = "domain" in rows[0]
        labelled = any("labels" in row for row in rows)
        labels = [row.pop("labels", None) for row in rows]
        word_masks = [row.pop(WORD_MASK, None) for row in rows]
        soft_labels = [row.pop(SOFT_LABELS, None) for row in rows]
        weights = [row.pop(ROW_WEIGHT, 1.0) for row in rows]
        states = [row.pop(FROZEN_STATES, None) for row in rows]
        domain = [row.pop("domain", None) for row in rows]
        row_draws = [row.pop(DRAW, None) for row in rows]
        draws = [
            None if row_draw is None else (domain_of_row + 1, *row_draw, 0)
            for domain_of_row, row_draw in zip(domain, row_draws, strict=True)
        ]
        if training and self.two_views:
            second_views = [k for k, domain_of_row in enumerate(domain) if domain_of_row == TARGET]
            rows += [rows[k] for k in second_views]
            draws += [(0, *row_draws[k], 1) for k in second_views]
        batch = self.encoder.stack(rows, draws)
        if self.space.task == "token-classification":
            width = batch["input_ids"].shape[1]
            pads_left = self.encoder.processing_class.padding_side == "left"
            if any(m is not None for m in word_masks):
                batch[WORD_MASK] = torch.tensor([pad_row(m or [], width, 0, pads_left) for m in word_masks])
            if labelled:
                batch["labels"] = torch.tensor([pad_row(y or [], width, IGNORE, pads_left) for y in labels])
        elif labelled:
            missing = self.space.missing
            values = [missing if y is None or y is math.nan else y for y in labels]
            batch["labels"] = torch.tensor(values, dtype=torch.float32 if self.space.is_float else torch.long)
        if training and states[0] is not None:
            batch[FROZEN_STATES] = stack_states(states, batch.get("attention_mask"))
        if training and any(soft is not None for soft in soft_labels):
            batch[SOFT_LABELS] = self._stacked_soft_labels(soft_labels, batch)
        if training and self.weighs_rows:
            batch[ROW_WEIGHTS] = torch.tensor(weights, dtype=torch.float32)
        if training:
            batch["domain"] = torch.tensor(domain)
            batch[NUM_SOURCE] = num_source = sum(domain_of_row != TARGET for domain_of_row in domain)
            if self.by_domain and 0 < num_source < len(domain) and "attention_mask" in batch:
                batch[SPANS] = [
                    _span(mask)
                    for mask in (batch["attention_mask"][:num_source], batch["attention_mask"][num_source:])
                ]
        return batch

    def _stacked_soft_labels(self, soft_labels: list[Any], batch: dict[str, Any]) -> torch.Tensor:
        """(rows, K), in tagging (rows, tokens, K); 0 where a row has none."""
        num_classes = len(self.space.names)
        if self.space.task != "token-classification":
            none = np.zeros(num_classes, dtype=np.float32)
            return torch.from_numpy(np.stack([none if soft is None else soft for soft in soft_labels]))
        width, pads_left = batch["input_ids"].shape[1], self.encoder.processing_class.padding_side == "left"
        stacked = np.zeros((len(soft_labels), width, num_classes), dtype=np.float32)
        for row, soft in zip(stacked, soft_labels, strict=True):
            if soft is not None:
                row[width - len(soft) if pads_left else 0 :][: len(soft)] = soft
        return torch.from_numpy(stacked)


def stack_states(states: Sequence[np.ndarray], mask: torch.Tensor | None) -> torch.Tensor:
    """Stored states of a batch: (rows, tokens, width) with zeros where the mask (rows, tokens) has none; without a
    mask, (rows, …)."""
    if mask is None:
        return torch.from_numpy(np.stack(states))
    joined = torch.from_numpy(np.concatenate(states))
    stacked = joined.new_zeros(*mask.shape, joined.shape[1])
    stacked[mask.bool()] = joined
    return stacked


def _span(mask: torch.Tensor) -> tuple[int, int]:
    """Range of columns, (first, one after the last), in which a mask (rows, tokens) is not padding throughout.

    It is read here, where tensors are on the CPU; in the model it would make every step wait for the device.
    """
    used = mask.any(0).nonzero()
    return int(used[0]), int(used[-1]) + 1
