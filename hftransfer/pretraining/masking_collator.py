"""Collator of masked language modelling: rows masked as their draw says, then packed or padded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.pairing import DRAW
from ..data.word_masking import WordMasking
from .packing import packed_layout, padded_layout, place_rows
from .text_rows import WORDS

HELD_OUT = 2**31  # in place of a domain's number, in the draws of held-out rows
RowRates = Callable[[Sequence[int], Sequence[int]], np.ndarray]


class MaskingCollator:
    """Collator of rows from `tokenize_rows`.

    What is masked of a row is a function of the seed, the row and the pass over its domain, which it says itself:
    neither the number of processes nor what stands beside it in a batch changes it.

    Args:
        masking: of words.
        pad_id: fills up sequences.
        seed: of all draws.
        rates: chances of a row's words, from its tokens and their words; those of `masking` when absent.
        pack_length: tokens of a packed sequence; `None` pads every row to the longest.
    """

    def __init__(
        self,
        masking: WordMasking,
        pad_id: int,
        seed: int,
        rates: RowRates | None = None,
        pack_length: int | None = None,
    ):
        self.masking, self.pad_id, self.seed, self.rates, self.pack_length = masking, pad_id, seed, rates, pack_length

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Batch of `PretrainingModel.forward`."""
        rows = [row["pair"][0] if "pair" in row else row for row in rows]  # a stream yields (row, [])
        masked = []
        for row in rows:
            rng = np.random.default_rng((self.seed, int(row["domain"]), *map(int, row[DRAW])))
            rates = None if self.rates is None else self.rates(row["input_ids"], row[WORDS])
            masked.append(self.masking(row["input_ids"], row[WORDS], rng, rates))
        lengths = [len(row.input_ids) for row in masked]
        layout = padded_layout(lengths) if self.pack_length is None else packed_layout(lengths, self.pack_length)
        placed = place_rows([row.input_ids for row in masked], layout, self.pad_id)
        starts = placed.pop("starts").tolist()
        positions = [start + row.positions for start, row in zip(starts, masked, strict=True)]
        return {
            **placed,
            "positions": torch.as_tensor(np.concatenate(positions), dtype=torch.long),
            "labels": torch.as_tensor(np.concatenate([row.labels for row in masked]), dtype=torch.long),
            "rows": len(rows),
        }


def held_out_batches(rows: Any, collator: MaskingCollator, batch_size: int) -> list[dict[str, Any]]:
    """Batches of held-out rows, each masked once and for all; rows of similar length stand together.

    Args:
        rows: from `tokenize_rows`, map-style.
        collator: masks and packs.
        batch_size: rows of a batch.
    """
    order = np.argsort(np.asarray(rows["length"]), kind="stable")
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [collator([{**rows[int(row)], "domain": HELD_OUT, DRAW: (int(row), 0)} for row in part]) for part in parts]
