"""Feature pass: a frozen backbone over a data set, in batches of like length, shared out among processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..messages import shown
from .feature_store import FeatureStore, Part, StoredSet
from .input_rows import NAME, Chunk
from .pass_progress import PassProgress
from .row_index import LARGEST

LIKE = 0.85  # share of the longest row's length that a row of the same batch has, if the batch is not tiny


class PassRows(Protocol):
    """Rows of a pass, such as `InputRows`."""

    @property
    def kind(self) -> str: ...

    def chunks(self) -> Iterator[Chunk]: ...


class PassModel(Protocol):
    """What runs in a pass, such as `FrozenBackbone`; see there."""

    poolings: tuple[Any, ...]
    layers: tuple[int, ...]

    def encode(self, values: Sequence[Any], names: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]: ...

    def stack(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]: ...

    def words(self, rows: Sequence[dict[str, Any]], indices: Sequence[int]) -> np.ndarray: ...

    def running(self) -> AbstractContextManager[None]: ...

    def pooled(self, batch: dict[str, torch.Tensor], rows: Sequence[dict[str, Any]]) -> list[torch.Tensor]: ...


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
        self._state: Any = None
        several = torch.distributed.is_available() and (
            torch.distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) > 1
        )
        if several:
            from accelerate.state import PartialState

            self._state = PartialState(cpu=not torch.accelerator.is_available())
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
    inputs: PassRows,
    store: FeatureStore,
    backbone: Callable[[], PassModel],
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
    hashes: list[np.ndarray] = []
    for number, chunk in enumerate(inputs.chunks()):
        keys.append(chunk.key)
        counts.append(len(chunk.values))
        if sum(counts) <= LARGEST:
            hashes.append(chunk.hashes)
        if number % processes.count == processes.rank:
            _make_sure(chunk, store, backbone, batch_size, statistics)
        progress.advance(len(chunk.values))
    if not keys:
        raise ValueError(f"{NAME} is empty: the stream has no rows.")
    processes.wait()
    if processes.rank == 0:
        with store.locked(store.set_key(keys)):
            if store.has_new_part(keys) or store.open(keys) is None:
                is_indexed = len(hashes) == len(keys) and inputs.kind != "tokens"
                store.assemble(keys, counts, np.concatenate(hashes) if is_indexed else None)
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
    backbone: Callable[[], PassModel],
    batch_size: int,
    statistics: PassStatistics,
) -> None:
    """Chunk in the store, computed where it is not."""
    if store.read(chunk.key) is None:
        with store.locked(chunk.key):
            if store.read(chunk.key) is None:
                store.write(chunk.key, _completed(chunk, store, backbone, batch_size, statistics))
                return
    statistics.read += len(chunk.values)


def _completed(
    chunk: Chunk,
    store: FeatureStore,
    backbone: Callable[[], PassModel],
    batch_size: int,
    statistics: PassStatistics,
) -> Part:
    """Features of a chunk: rows that another set holds are read, and equal rows are computed once."""
    found = store.find(chunk.hashes)
    missing = np.flatnonzero(found[:, 0] < 0)
    _, first, copies = np.unique(chunk.hashes[missing], axis=0, return_index=True, return_inverse=True)
    statistics.read += len(found) - len(first)
    if not len(missing):
        return store.gather(found)
    part = compute(backbone(), chunk.select(missing[first].tolist()), batch_size, statistics)
    if part.positions is not None:
        return _repeated_words(part, copies.reshape(-1))
    made = part.features[copies.reshape(-1)]
    if len(missing) == len(found):
        return Part(made, part.columns)
    features = np.empty((len(found), made.shape[1]), made.dtype)
    features[missing] = made
    known = np.setdiff1d(np.arange(len(found)), missing)
    features[known] = store.gather(found[known]).features
    return Part(features, part.columns)


def _repeated_words(part: Part, copies: np.ndarray) -> Part:
    """Words of rows of which some are equal: `copies` says by row which of the part's rows it is."""
    assert part.positions is not None
    counts = np.bincount(part.positions[:, 0], minlength=copies.max() + 1)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    taken = np.concatenate([np.arange(starts[row], starts[row] + counts[row]) for row in copies])
    rows = np.repeat(np.arange(len(copies)), counts[copies])
    return Part(part.features[taken], part.columns, np.column_stack([rows, part.positions[taken, 1]]))


def compute(backbone: PassModel, chunk: Chunk, batch_size: int, statistics: PassStatistics) -> Part:
    """Features of a chunk in the order of its rows, from batches of rows of like length, the longest first.

    Raises:
        FloatingPointError: features that are not finite; the message names the row.
    """
    names = chunk.names()
    rows, lengths = backbone.encode(chunk.values, names)
    is_words = backbone.poolings == ("token",)
    parts: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    columns: dict[str, int] = {}
    with backbone.running():
        for batch in length_batches(lengths, batch_size):
            for indices, features, widths, padded in _fitting(backbone, rows, batch):
                columns = widths
                statistics.tokens += sum(lengths[i] for i in indices)
                statistics.padded += padded
                parts.append(features)
                positions.append(backbone.words(rows, indices) if is_words else np.array(indices)[:, None])
    statistics.computed += len(chunk.values)
    placed = np.concatenate(positions)
    back = np.lexsort(placed.T[::-1])
    placed, features = placed[back], np.concatenate(parts)[back]
    broken = np.flatnonzero(~np.isfinite(features).all(1))
    if len(broken):
        row = int(placed[broken[0]][0])
        raise FloatingPointError(
            f'{names[row]} ({shown(chunk.values[row])}): its features are not finite. Take dtype="float32", or look '
            "at the row."
        )
    return Part(features, columns, placed if is_words else None)


def length_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Rows of like length together, the longest first: batches of `batch_size`, and smaller ones where lengths fall
    fast.

    Args:
        lengths: of the rows.
        batch_size: rows of a batch at most.

    Example:
        >>> list(length_batches([3, 9, 3, 3], batch_size=3))
        [[1], [0, 2, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    fewest = max(1, batch_size // 8)
    batch: list[int] = []
    for row in order:
        is_short = bool(batch) and lengths[row] < LIKE * lengths[batch[0]]
        if len(batch) == batch_size or (is_short and len(batch) >= fewest):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _fitting(
    backbone: PassModel, rows: Sequence[dict[str, Any]], indices: Sequence[int]
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
    yield list(indices), features, widths, padded
