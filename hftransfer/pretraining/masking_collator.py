"""Collator of pre-training: rows masked, or deleted in part, as their draw says, then packed or padded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.pairing import DRAW
from ..data.word_deletion import WordDeletion
from ..data.word_masking import WordMasking
from .packing import packed_layout, padded_layout, place_rows
from .text_rows import WORDS

DELETION = 1  # besides the row and the pass, of draws for deleted words
HELD_OUT = 2**31  # in place of a domain's number, in the draws of held-out rows
RowRates = Callable[[Sequence[int], Sequence[int]], np.ndarray]


class MaskingCollator:
    """Collator of rows from `tokenize_rows`.

    What is masked or deleted of a row is a function of the seed, the row and the pass over its domain, which it says
    itself: neither the number of processes nor what stands beside it in a batch changes it.

    Args:
        masking: of words; `None` leaves them as they are.
        pad_id: fills up sequences.
        seed: of all draws.
        rates: chances of a row's words, from its tokens and their words; those of `masking` when absent.
        pack_length: tokens of a packed sequence; `None` pads every row to the longest.
        deletion: of words; a batch then holds what is left of each text besides, and the texts to write anew.
        reads_texts: the encoder reads the texts themselves, masked or not; otherwise what is left of them alone.
    """

    def __init__(
        self,
        masking: WordMasking | None,
        pad_id: int,
        seed: int,
        rates: RowRates | None = None,
        pack_length: int | None = None,
        deletion: WordDeletion | None = None,
        reads_texts: bool = True,
    ):
        self.masking, self.pad_id, self.seed, self.rates, self.pack_length = masking, pad_id, seed, rates, pack_length
        self.deletion, self.reads_texts = deletion, reads_texts

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Batch of `PretrainingModel.forward`."""
        rows = [row["pair"][0] if "pair" in row else row for row in rows]  # a stream yields (row, [])
        batch: dict[str, Any] = {"rows": len(rows)}
        if self.masking is not None:
            batch |= self._masked(rows)
        elif self.reads_texts:
            batch |= self._placed([row["input_ids"] for row in rows])[0]
        if self.deletion is not None:
            batch |= self._denoising(rows, self.deletion)
        return batch

    def _masked(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Texts with words masked, and what stood there."""
        masked = []
        for row in rows:
            rates = None if self.rates is None else self.rates(row["input_ids"], row[WORDS])
            masked.append(self.masking(row["input_ids"], row[WORDS], self._draws_of(row), rates))  # type: ignore[misc]
        placed, starts = self._placed([row.input_ids for row in masked])
        positions = [start + row.positions for start, row in zip(starts, masked, strict=True)]
        return {
            **placed,
            "positions": torch.as_tensor(np.concatenate(positions), dtype=torch.long),
            "labels": torch.as_tensor(np.concatenate([row.labels for row in masked]), dtype=torch.long),
        }

    def _denoising(self, rows: Sequence[Mapping[str, Any]], deletion: WordDeletion) -> dict[str, Any]:
        """What is left of texts, and the texts to write anew, a row each."""
        left = [deletion(row["input_ids"], row[WORDS], self._draws_of(row, DELETION)) for row in rows]
        texts = [row["input_ids"] for row in rows]
        lengths = [len(text) for text in texts]
        whole = place_rows(texts, padded_layout(lengths), self.pad_id)["input_ids"]
        is_read = torch.arange(whole.shape[1] - 1) < torch.as_tensor(lengths)[:, None] - 1
        return {
            **{f"left_{name}": tensor for name, tensor in self._placed(left)[0].items()},
            "text_ids": whole,
            "text_positions": is_read.reshape(-1).nonzero().flatten(),
        }

    def _placed(self, rows: Sequence[Any]) -> tuple[dict[str, torch.Tensor], list[int]]:
        """Tokens of rows at their places, packed or padded, and where each row begins."""
        lengths = [len(row) for row in rows]
        layout = padded_layout(lengths) if self.pack_length is None else packed_layout(lengths, self.pack_length)
        placed = place_rows(rows, layout, self.pad_id)
        return placed, placed.pop("starts").tolist()

    def _draws_of(self, row: Mapping[str, Any], *more: int) -> np.random.Generator:
        """Random numbers of a row in its pass."""
        return np.random.default_rng((self.seed, int(row["domain"]), *map(int, row[DRAW]), *more))


def held_out_batches(rows: Any, collator: MaskingCollator, batch_size: int) -> list[dict[str, Any]]:
    """Batches of held-out rows, each masked once and for all; rows of similar length stand together.

    Where chance masks no word of any of them, as of few short rows, one word of each is masked instead: nothing would
    be measured otherwise.

    Args:
        rows: from `tokenize_rows`, map-style.
        collator: masks and packs.
        batch_size: rows of a batch at most.
    """
    order = np.argsort(np.asarray(rows["length"]), kind="stable")
    parts = np.array_split(order, -(-len(order) // batch_size))  # of nearly equal size
    drawn = [[{**rows[int(row)], "domain": HELD_OUT, DRAW: (int(row), 0)} for row in part] for part in parts]
    batches = [collator(part) for part in drawn]
    if collator.masking is None or any(len(batch["labels"]) for batch in batches):
        return batches
    one_word = copy.copy(collator)
    one_word.rates = _one_of_all
    return [one_word(part) for part in drawn]


def _one_of_all(input_ids: Sequence[int], words: Sequence[int]) -> np.ndarray:
    """(words,) chances with which `draw_words` draws one word of a row."""
    count = max(words) + 1
    return np.full(count, 1 / count)
