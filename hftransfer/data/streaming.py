"""Paired stream of source and target rows, for data that cannot be indexed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from .pairing import DRAW, TARGET
from .weight_column import ROW_WEIGHT, refuse_weightless


class PairedStream(torch.utils.data.IterableDataset):
    """Stream of `{"pair": (source row, [target rows])}`.

    Whichever of its streams ends starts over, so `max_steps` ends the run.

    Several sources take turns. Every process reads the whole stream and keeps its own share (accelerate's
    `IterableDatasetShard`), so nothing needs to be sharded beforehand.

    Args:
        sources: encoded streams (or datasets) by name.
        target: the encoded target stream; `None` trains on the sources alone.
        ratio: target rows per source row.
        batch_size: source rows per batch; each batch brings `max(1, round(batch_size·ratio))` target rows, so that all
            batches of all processes are of one shape.
        seed, buffer_size: of the streams' own shuffling.
        draws: rows are changed at random, so each says under `draw` at which place of which epoch it came.

    Raises:
        ValueError: at the first read, when a stream has no rows at all; after a pass, when all had weight 0.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        target: Any | None,
        ratio: float = 1.0,
        batch_size: int = 1,
        seed: int = 42,
        buffer_size: int = 1000,
        draws: bool = False,
    ):
        self.draws = draws
        self.sources = {name: _shuffled(s, seed, buffer_size) for name, s in sources.items()}
        self.target = None if target is None else _shuffled(target, seed + 1, buffer_size)
        self.batch_size, self.target_rows, self.epoch = batch_size, max(1, round(batch_size * ratio)), 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        readers = [_endless(s, i, name, self.epoch) for i, (name, s) in enumerate(self.sources.items())]
        target = None if self.target is None else _endless(self.target, TARGET, "target_dataset", self.epoch)
        number = 0
        while True:
            row = next(readers[number % len(readers)])
            position = number % self.batch_size
            before, after = (p * self.target_rows // self.batch_size for p in (position, position + 1))
            target_rows = [next(target) for _ in range(after - before)] if target is not None else []
            if self.draws:
                row = {**row, DRAW: (number, self.epoch)}
                first_target = number // self.batch_size * self.target_rows + before
                target_rows = [{**other, DRAW: (first_target + i, self.epoch)} for i, other in enumerate(target_rows)]
            yield {"pair": (row, target_rows)}
            number += 1


def _shuffled(dataset: Any, seed: int, buffer_size: int) -> Any:
    stream = dataset.to_iterable_dataset() if hasattr(dataset, "__len__") else dataset
    return stream.shuffle(seed=seed, buffer_size=buffer_size)


def _endless(dataset: Any, domain: int, name: str, epoch: int) -> Iterator[dict[str, Any]]:
    """Rows of a stream with their domain, pass after pass, each pass in another order."""
    passes = 0
    while True:
        dataset.set_epoch(epoch * 1_000_003 + passes)
        empty, counts = True, False
        for row in dataset:
            empty, counts = False, counts or row.get(ROW_WEIGHT, 1.0) > 0
            yield {**row, "domain": domain}
        if empty:
            raise ValueError(f"{name} is empty: the stream has no rows.")
        if not counts:
            raise refuse_weightless(name)
        passes += 1
