"""Collator of masked image modelling: images cropped and masked as their draw says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..data.block_masking import BlockMasking
from ..data.image_encoder import ImageEncoder
from ..data.pairing import DRAW

HELD_OUT = 2**31  # in place of a domain's number, in the draws of held-out rows
VIEW, MASK = 0, 2  # at the end of a draw: what is drawn (1 is a second view, which there is none of here)


class ImageMaskingCollator:
    """Collator of rows from `ImageEncoder.encode`.

    What is cut out and masked of a row is a function of the seed, the row and the pass over its domain, which it says
    itself: neither the number of processes nor what stands beside it in a batch changes it.

    Args:
        encoder: decodes, augments and processes images.
        masking: of patches.
        seed: of all draws.
    """

    def __init__(self, encoder: ImageEncoder, masking: BlockMasking, seed: int):
        self.encoder, self.masking, self.seed = encoder, masking, seed

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Batch of `ImagePretrainingModel.forward`; rows of the domain `HELD_OUT` are not augmented."""
        rows = [row["pair"][0] if "pair" in row else row for row in rows]  # a stream yields (row, [])
        draws = [(int(row["domain"]), *map(int, row[DRAW])) for row in rows]
        views = [None if draw[0] == HELD_OUT else (*draw, VIEW) for draw in draws]
        masked = [self.masking(np.random.default_rng((self.seed, *draw, MASK))) for draw in draws]
        return {
            "pixel_values": self.encoder.stack(rows, views)["pixel_values"],
            "masked": torch.from_numpy(np.stack(masked)),
            "rows": len(rows),
        }


class HeldOutImages(Sequence[dict[str, Any]]):
    """Batches of held-out images, each image masked the same way whenever it is read; decoded when a batch is.

    Args:
        rows: from `ImageEncoder.encode`, map-style.
        collator: masks them.
        batch_size: rows of a batch.
        numbers: of the rows that are read; all when absent.
    """

    def __init__(
        self, rows: Any, collator: ImageMaskingCollator, batch_size: int, numbers: Sequence[range] | None = None
    ):
        self.rows, self.collator, self.batch_size = rows, collator, batch_size
        starts = range(0, len(rows), batch_size)
        self.numbers = [range(s, min(s + batch_size, len(rows))) for s in starts] if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._batch(numbers) for numbers in self.numbers)

    def __getitem__(self, index: Any) -> Any:
        """A batch, or several by a slice."""
        if isinstance(index, slice):
            return HeldOutImages(self.rows, self.collator, self.batch_size, self.numbers[index])
        return self._batch(self.numbers[index])

    def _batch(self, numbers: range) -> dict[str, Any]:
        return self.collator([{**self.rows[row], "domain": HELD_OUT, DRAW: (row, 0)} for row in numbers])
