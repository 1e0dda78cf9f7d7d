"""Feature pass: one run of a frozen backbone over a data set, in batches of like length, shared out among processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..messages import shown
from .feature_store import FeatureStore, Part, StoredSet
from .frozen_backbone import FrozenBackbone
from .input_rows import NAME, Chunk, InputRows
from .pass_progress import PassProgress

logger = logging.getLogger(__name__)


@dataclass
class PassStatistics:
    """What a pass did in this process.

    Attributes:
        computed: rows that the model ran on.
        read: rows that were in the cache.
        tokens: of the rows that the model ran on, without padding; images count as one.
        padded: the same with padding.
    """

    computed: int = 0
    read: int = 0
    tokens: int = 0
    padded: int = 0

    @property
    def padding(self) -> float:
        """Share of padding among the tokens that the model ran on."""
        return 1 - self.tokens / self.padded if self.padded else 0.0


class Processes:
    """Processes of this run, as accelerate or torch started them."""

    def __init__(self) -> None:
        several = torch.distributed.is_available() and (
            torch.distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) > 1
        )
        self._state = None
        if several:
            from accelerate import PartialState

            self._state = PartialState()
        self.rank = 0 if self._state is None else int(self._state.process_index)
        self.count = 1 if self._state is None else int(self._state.num_processes)

    def wait(self) -> None:
        """Until all processes are here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def from_first(self, value: Any) -> Any:
        """Value of the first process."""
        if self._state is None:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


def run_pass(
    inputs: InputRows,
    store: FeatureStore,
    backbone: Callable[[], FrozenBackbone],
    batch_size: int,
    progress: PassProgress,
    statistics: PassStatistics,
    processes: Processes,
) -> StoredSet:
    """Features of all rows, computed as far as they are not in the store.

    Args:
        inputs: the rows.
        store: of the recipe.
        backbone: is asked for when the first chunk has to be computed.
        batch_size: rows that the model sees at once.
        progress: is told of each chunk.
        statistics: are added to.
        processes: each computes every n-th chunk; all get the whole.
    """
    keys: list[str] = []
    counts: list[int] = []
    for number, chunk in enumerate(inputs.chunks()):
        keys.append(chunk.key)
        counts.append(len(chunk.values))
        if number % processes.count == processes.rank:
            _make_sure(chunk, store, backbone, batch_size, statistics)
        progress.advance(len(chunk.values))
    if not keys:
        raise ValueError(f"{NAME} is empty: the stream has no rows.")
    processes.wait()
    if processes.rank == 0:
        with store.locked(store.set_key(keys)):
            if store.has_new_part(keys) or store.open(keys) is None:
                store.assemble(keys, counts)
    processes.wait()
    stored = store.open(keys)
    if stored is None:
        raise FileNotFoundError(
            f"The features are not in {store.folder}: they were removed meanwhile, or the processes do not share "
            "cache_dir."
        )
    return stored


def _make_sure(
    chunk: Chunk,
    store: FeatureStore,
    backbone: Callable[[], FrozenBackbone],
    batch_size: int,
    statistics: PassStatistics,
) -> None:
    """Chunk in the store, computed where it is not."""
    if store.read(chunk.key) is None:
        with store.locked(chunk.key):
            if store.read(chunk.key) is None:
                store.write(chunk.key, compute(backbone(), chunk, batch_size, statistics))
                statistics.computed += len(chunk.values)
                return
    statistics.read += len(chunk.values)


def compute(backbone: FrozenBackbone, chunk: Chunk, batch_size: int, statistics: PassStatistics) -> Part:
    """Features of a chunk in the order of its rows, from batches of rows of like length, the longest first.

    Raises:
        FloatingPointError: features that are not finite; the message names the row.
    """
    names = [f"{NAME} row {chunk.start + i}" for i in range(len(chunk.values))]
    rows, lengths = backbone.encode(chunk.values, names)
    order = np.argsort(lengths, kind="stable")[::-1]
    is_words = backbone.poolings == ("token",)
    columns: dict[str, int] = {}
    parts: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    with backbone.running():
        for start in range(0, len(order), batch_size):
            for picked in _fitting(backbone, rows, order[start : start + batch_size]):
                indices, features, columns, padded = picked
                statistics.tokens += sum(lengths[i] for i in indices)
                statistics.padded += padded
                parts.append(features)
                positions.append(backbone.words(rows, indices) if is_words else np.asarray(indices)[:, None])
    placed = np.concatenate(positions)
    back = np.lexsort(placed.T[::-1])
    features = np.concatenate(parts)[back]
    finite = np.isfinite(features).all(1)
    if not finite.all():
        row = int(placed[back][int(np.flatnonzero(~finite)[0])][0])
        raise FloatingPointError(
            f'{names[row]} ({shown(chunk.values[row])}): its features are not finite. Take dtype="float32", or '
            "look at the row."
        )
    return Part(features, columns, placed[back] if is_words else None)


def _fitting(
    backbone: FrozenBackbone, rows: Sequence[dict[str, Any]], indices: np.ndarray
) -> Iterator[tuple[list[int], np.ndarray, dict[str, int], int]]:
    """Features of a batch, in halves where an accelerator's memory is too small for the whole."""
    batch_rows = [rows[i] for i in indices]
    try:
        batch = backbone.stack(batch_rows)
        pooled = backbone.pooled(batch, batch_rows)
        features = torch.cat(pooled, dim=1).cpu().numpy()
    except torch.OutOfMemoryError:
        if len(indices) == 1:
            raise
        half = len(indices) // 2
        yield from _fitting(backbone, rows, indices[:half])
        yield from _fitting(backbone, rows, indices[half:])
        return
    names = [f"{layer}/{pooling}" for layer in backbone.layers for pooling in backbone.poolings]
    widths = {name: int(part.shape[1]) for name, part in zip(names, pooled, strict=True)}
    padded = int(batch["input_ids"].numel()) if "input_ids" in batch else len(indices)
    yield [int(i) for i in indices], features, widths, padded
