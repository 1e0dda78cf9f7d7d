"""Pairing of source and target rows in every batch: one dataset and one sampler instead of two loaders.

What batch *b* of epoch *e* holds is a pure function of (seed, e, b): nothing is checkpointed, workers and processes
agree without talking, and a resumed run sees the rows that the uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch

from ..settings import read_choice
from .column_arrays import number_column
from .text_encoder import LENGTH

EpochBy = Literal["source", "longest"]
DRAW = "draw"  # of a row: its number in its domain and the pass over the domain, for who draws random numbers for it
FROZEN_STATES = "frozen_states"  # of a row: what the model's frozen layers give for it, where that is stored
TARGET = -1  # `domain` of a target row; sources are 0, 1, … in the order given
SAMPLED_BATCHES = 1000  # batches of which the padding is counted
SORTING_WINDOW = 50  # global batches that are sorted together: more pads less, fewer mixes more


class PairedDataset(torch.utils.data.Dataset):
    """Dataset of sources and target behind one index: sources first, in order, then the target.

    Args:
        sources: encoded labelled domains by name; none trains on the target alone.
        target: the encoded target; `None` trains on the sources alone.
        draws: rows are changed at random, so each says under `draw` which row of its domain it is and in which pass
            over the domain it came. The pass is part of the index: index = position + pass * len(dataset).

    Attributes:
        frozen_states: by domain, what the model's frozen layers give for each of its rows, by number; rows hold it
            then. `None` where it is not stored.
    """

    frozen_states: Sequence[Any] | None = None

    def __init__(self, sources: Mapping[str, Any], target: Any | None, draws: bool = False):
        self.draws = draws
        self.domain_rows = [*sources.values(), *([target] if target is not None else [])]
        self.domains = [*range(len(sources)), *([TARGET] if target is not None else [])]
        self.starts = np.cumsum([0, *(len(rows) for rows in self.domain_rows)])
        self.num_source = int(self.starts[len(sources)])
        self.num_target = int(self.starts[-1]) - self.num_source
        self.source_sizes = [len(rows) for rows in sources.values()]
        lengths = [number_column(rows, LENGTH) for rows in self.domain_rows if LENGTH in rows.column_names]
        self.lengths = np.concatenate(lengths) if len(lengths) == len(self.domain_rows) else None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Rows in the order asked for, one read per domain."""
        passes, ids = np.divmod(np.asarray(indices), len(self))
        domain_of_row = np.searchsorted(self.starts, ids, side="right") - 1
        rows: list[dict[str, Any]] = [{}] * len(ids)
        for domain in np.unique(domain_of_row):
            positions = np.flatnonzero(domain_of_row == domain)
            columns = self.domain_rows[domain][(ids[positions] - self.starts[domain]).tolist()]
            for k, position in enumerate(positions):
                rows[position] = {name: values[k] for name, values in columns.items()}
                rows[position]["domain"] = self.domains[domain]
                if self.frozen_states is not None:
                    number = int(ids[position] - self.starts[domain])
                    rows[position][FROZEN_STATES] = self.frozen_states[domain][number]
                if self.draws:
                    rows[position][DRAW] = (int(ids[position] - self.starts[domain]), int(passes[position]))
        return rows


class PairedBatchSampler(torch.utils.data.Sampler[list[int]]):
    """Sampler of full batches: `batch_size` source rows followed by `target_batch_size` target rows.

    Without a source a batch is `batch_size` target rows, and an epoch is one pass over the target.

    Rows come from endless sequences of permutations, one per domain, so that no row is seen twice before all were
    seen. Batches are built for all processes and accumulation steps of an update at once (a *global* batch) and cut
    up afterwards: 1 process × 8, 2 processes × 4 and 4 accumulated × 2 see the same rows in the same updates.

    Args:
        dataset: what the indices point into.
        batch_size: source rows per process and micro-batch.
        ratio: target rows per source row.
        chunks: micro-batches per update, all processes together.
        epoch_by: `"source"` ends an epoch when every source row was seen, `"longest"` when the longer domain is
            through; the shorter one starts over meanwhile.
        balanced: several sources in equal shares of every batch instead of by size.
        group_by_length: put rows of similar length together, each domain by itself, and pair source and target
            batches by rank of length; needs `length` columns.
        drop_last: leave out the last, partly repeated update of an epoch.
        seed: of all permutations.
    """

    def __init__(
        self,
        dataset: PairedDataset,
        batch_size: int,
        ratio: float = 1.0,
        chunks: int = 1,
        epoch_by: EpochBy = "source",
        balanced: bool = False,
        group_by_length: bool = True,
        drop_last: bool = False,
        seed: int = 42,
    ):
        self.dataset, self.chunks, self.seed, self.epoch = dataset, chunks, seed, 0
        self.source_rows = batch_size if dataset.num_source else 0
        self.target_rows = max(1, round(batch_size * ratio)) if dataset.num_target else 0
        self.batch_size = self.source_rows + self.target_rows  # what accelerate reads
        self.drop_last = False  # for accelerate: there is no short batch
        self.balanced = balanced and len(dataset.source_sizes) > 1
        self.lengths = dataset.lengths if group_by_length else None
        self.stride = len(dataset) if dataset.draws else 0
        if self.balanced:
            rows_per_epoch = max(dataset.source_sizes) * len(dataset.source_sizes)
        else:
            rows_per_epoch = dataset.num_source
        updates = rows_per_epoch / (batch_size * chunks)
        by_target = read_choice("epoch_by", epoch_by, EpochBy) == "longest" or not dataset.num_source
        if by_target and dataset.num_target:
            updates = max(updates, dataset.num_target / (self.target_rows * chunks))
        self.updates = max(1, math.floor(updates) if drop_last else math.ceil(updates))

    def __len__(self) -> int:
        return self.updates * self.chunks

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        source = self._sources(self.source_rows * self.chunks)
        target = self._targets(self.target_rows * self.chunks)
        if self.lengths is not None:
            source, target = self._by_length(source, target)
        for s, t in zip(source, target, strict=True):
            for s_part, t_part in zip(s.reshape(self.chunks, -1), t.reshape(self.chunks, -1), strict=True):
                yield [*s_part.tolist(), *t_part.tolist()]

    def padding(self) -> tuple[float, float] | None:
        """Shares of padding among an epoch's tokens, or `None` for rows without a `length`.

        Two shares: with both halves of a batch as wide as its longest row, and with each as wide as its own. They are
        read off the first thousand batches.
        """
        if self.dataset.lengths is None:
            return None
        lengths = self.dataset.lengths[np.array(list(islice(self, SAMPLED_BATCHES))) % len(self.dataset)]
        halves = [half for half in np.split(lengths, [self.source_rows], axis=1) if half.size]
        together, apart = (
            sum(block.max(1).sum() * block.shape[1] for block in blocks) for blocks in ([lengths], halves)
        )
        return float(1 - lengths.sum() / together), float(1 - lengths.sum() / apart)

    def _sources(self, rows: int) -> np.ndarray:
        """Source indices of this epoch, (updates, rows)."""
        count = self.updates * rows
        if not count:
            return np.empty((self.updates, 0), dtype=np.int64)
        if not self.balanced:
            size, start = self.dataset.num_source, self.epoch * count
            return _stream(size, start, count, (self.seed, 0), self.stride).reshape(-1, rows)
        k = len(self.dataset.source_sizes)
        positions = np.arange(self.epoch * count, (self.epoch + 1) * count)  # turn t goes to source t mod k
        out = np.empty(count, dtype=np.int64)
        for i, size in enumerate(self.dataset.source_sizes):
            is_of_source = positions % k == i
            first_row = int(positions[is_of_source][0]) // k if is_of_source.any() else 0
            order = _stream(size, first_row, int(is_of_source.sum()), (self.seed, 2, i), self.stride)
            out[is_of_source] = order + int(self.dataset.starts[i])
        return out.reshape(-1, rows)

    def _targets(self, rows: int) -> np.ndarray:
        """Target indices of this epoch, (updates, rows)."""
        count = self.updates * rows
        if not rows:
            return np.empty((self.updates, 0), dtype=np.int64)
        order = _stream(self.dataset.num_target, self.epoch * count, count, (self.seed, 1), self.stride)
        return (order + self.dataset.num_source).reshape(-1, rows)

    def _by_length(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices sorted by length within windows; the resulting updates are shuffled, source and target in step."""
        rng = np.random.default_rng((self.seed, 3, self.epoch))
        out_s, out_t = [], []
        for start in range(0, self.updates, SORTING_WINDOW):
            s, t = (
                self._sorted(source[start : start + SORTING_WINDOW]),
                self._sorted(target[start : start + SORTING_WINDOW]),
            )
            out_s.append(s)
            out_t.append(t)
        s, t = np.concatenate(out_s), np.concatenate(out_t)
        order = rng.permutation(len(s))
        # The micro-batches of one update stay together; within an update rows are mixed again, so that the cut
        # between processes does not follow length.
        for block in (s, t):
            for row in block:
                for places in self._places_by_source(row):
                    row[places] = rng.permutation(row[places])
        return s[order], t[order]

    def _sorted(self, block: np.ndarray) -> np.ndarray:
        assert self.lengths is not None
        flat = block.reshape(-1).copy()
        for places in self._places_by_source(flat):
            ids = flat[places]
            flat[places] = ids[np.argsort(self.lengths[ids % len(self.dataset)], kind="stable")]
        return flat.reshape(block.shape)

    def _places_by_source(self, indices: np.ndarray) -> list[Any]:
        """Places of each source's rows among indices, where sources keep their shares of a batch; else all as one."""
        if not self.balanced:
            return [slice(None)]
        source = np.searchsorted(self.dataset.starts, indices % len(self.dataset), side="right")
        return [np.flatnonzero(source == number) for number in np.unique(source)]


def _stream(size: int, start: int, count: int, key: tuple[int, ...], stride: int = 0) -> np.ndarray:
    """Positions `start … start+count` of an endless sequence of permutations of `range(size)`.

    The p-th permutation is moved up by `p * stride`.
    """
    if not count:
        return np.empty(0, dtype=np.int64)
    first, last = start // size, (start + count - 1) // size
    passes = [np.random.default_rng((*key, p)).permutation(size) + p * stride for p in range(first, last + 1)]
    offset = start - first * size
    return np.concatenate(passes)[offset : offset + count]
