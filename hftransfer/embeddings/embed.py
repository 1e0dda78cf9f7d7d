"""Frozen features of a data set, from one pass with any backbone, kept in a cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..setting_ranges import COUNT
from .cache_folder import cache_folder, cache_size, trim
from .feature_extractor import FeatureExtractor
from .feature_pass import PassStatistics, Processes, run_pass
from .feature_store import FeatureStore, StoredSet
from .input_rows import InputRows, input_rows
from .pass_progress import PassProgress


@dataclass(frozen=True)
class Embeddings:
    """Frozen features of a data set.

    Attributes:
        features: (rows, width), float32, memory-mapped and read-only; of several layers or poolings, side by side.
            With `pooling="token"` a row is a word.
        columns: which columns are of which layer and pooling, by names such as `"-1/mean"`.
        rows: (rows,) row of the data set that each came from.
        words: (rows,) number of the word in its row; `None` where a row is no word.
        statistics: what the pass did in this process.

    Example:
        >>> embeddings = embed(["w1 w2", "w3"], "runs/teacher", layer=[1, -1], cache_dir=False)
        >>> embeddings.features.shape, embeddings["1/mean"].shape
        ((2, 64), (2, 32))
    """

    features: np.ndarray
    columns: Mapping[str, slice]
    rows: np.ndarray
    words: np.ndarray | None = None
    statistics: PassStatistics = field(default_factory=PassStatistics, compare=False)

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one layer and pooling, as a view; raises `KeyError` for a name that is not in `columns`."""
        if name not in self.columns:
            raise KeyError(f"There are no columns {name!r}; there are {', '.join(self.columns)}.")
        return self.features[:, self.columns[name]]


def embed(
    rows: Any,
    model: Any,
    *,
    pooling: Any = "mean",
    layer: Any = -1,
    max_length: int | None = None,
    batch_size: int = 64,
    dtype: Any = None,
    device: Any = None,
    cache_dir: str | os.PathLike[str] | bool | None = None,
    cache_size: str | int | None = None,
    processing_class: Any = None,
    column: str | None = None,
    revision: str | None = None,
    progress: bool = True,
) -> Embeddings:
    """Frozen features of a data set.

    Rows are read once, in chunks, and batched by length. What is in the cache is not computed again: a second call
    reads the rows and the features, and so does one on some of the rows, or on more. A pass that was killed goes on at
    the chunk that it was at. Under `accelerate launch` or `torchrun` each process computes its share of the chunks,
    and all get the whole.

    Args:
        rows: see `input_rows`: texts, lists of words, images, or a data set that holds some, a stream too.
        model: Hub id, folder, or a loaded transformers model.
        pooling: one or several of `"mean"` (over tokens or patches, padding aside), `"cls"` (the first token),
            `"max"`, `"last"` (the last token that is no padding: decoders), `"token"` (the first sub-word of each
            word; for lists of words), `"head"` (what the last layer of the model's own classifier reads), `"pooler"`
            (the model's own pooled output, which a dual encoder reads).
        layer: one or several: -1 the last hidden state, after the final norm; 0 the embeddings, 1 the first layer, -2
            the last layer but one, as in `hidden_states`.
        max_length: in tokens; the model's own limit when `None`.
        batch_size: rows that the model sees at once; halved where memory does not suffice.
        dtype, device, processing_class, revision: see `FeatureExtractor`.
        cache_dir: folder of the cache; `$HFTRANSFER_CACHE` or a folder in the Hub's cache when `None`; `False` keeps
            nothing.
        cache_size: limit such as `"20 GB"`, beyond which the least recently used features are removed;
            `$HFTRANSFER_CACHE_SIZE` or 20 GB when `None`.
        column: of a data set.
        progress: show how far it is.

    Raises:
        TypeError, ValueError: rows or settings that cannot be used; the message names the row or the setting.
        FileNotFoundError: there is no such model.
        FloatingPointError: features that are not finite.
        DiskFullError: the features do not fit on the disk.

    Example:
        >>> embeddings = embed(["w1 w2", "w3", "w4 w5 w6"], "runs/teacher", cache_dir=False)
        >>> embeddings.features.shape
        (3, 32)
    """
    extractor = FeatureExtractor(model, pooling, layer, max_length, dtype, device, processing_class, revision)
    inputs = input_rows(rows, column, extractor.modality)
    return embed_rows(extractor, inputs, batch_size, cache_dir, cache_size, progress)


def embed_rows(
    extractor: FeatureExtractor,
    inputs: InputRows,
    batch_size: int = 64,
    cache_dir: str | os.PathLike[str] | bool | None = None,
    size_limit: str | int | None = None,
    progress: bool = True,
) -> Embeddings:
    """Frozen features by an extractor that is there already; see `embed`."""
    batch_size = check_pass(batch_size, cache_dir)
    limit, processes, statistics = cache_size(size_limit), Processes(), PassStatistics()
    kept = cache_dir is not False
    made = tempfile.mkdtemp(prefix="hftransfer-") if not kept and processes.rank == 0 else None
    temporary = processes.from_first(made)
    root = (
        Path(temporary) if temporary is not None else cache_folder(None if isinstance(cache_dir, bool) else cache_dir)
    )
    try:
        store = FeatureStore(root, extractor.recipe(inputs.kind), extractor.about())
        with PassProgress(inputs.count, progress and processes.rank == 0) as shown:
            stored = run_pass(
                inputs,
                store,
                lambda: extractor.backbone(inputs.kind),
                batch_size,
                shown,
                statistics,
                processes,
            )
        if not kept:
            features, positions = np.array(stored.features), stored.positions
            stored = StoredSet(
                features, stored.columns, None if positions is None else np.array(positions), stored.parts
            )
            processes.wait()
        elif processes.rank == 0:
            trim(root, limit, [store.sets / store.set_key([part[0] for part in stored.parts])])
    finally:
        if temporary is not None and processes.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
    return _described(stored, statistics)


def check_pass(batch_size: Any, cache_dir: Any) -> int:
    """Number of rows of a batch, and check of a pass's folder.

    Raises:
        ValueError, TypeError: what is no number of rows, or no folder.
    """
    if cache_dir is True:
        raise ValueError("cache_dir=True is no folder: None takes the usual one, False none.")
    if cache_dir is not False:
        cache_folder(cache_dir)
    return int(COUNT.read("batch_size", batch_size))


def _described(stored: StoredSet, statistics: PassStatistics) -> Embeddings:
    columns, start = {}, 0
    for name, width in stored.columns.items():
        columns[name] = slice(start, start + width)
        start += width
    if stored.positions is None:
        return Embeddings(stored.features, columns, np.arange(len(stored.features)), None, statistics)
    rows, words = stored.positions[:, 0], stored.positions[:, 1]
    return Embeddings(stored.features, columns, rows, words, statistics)
