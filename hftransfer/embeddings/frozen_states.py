"""Frozen states of data sets: what a model's frozen layers give for each row, kept in the cache and read row by row.

Of a text, the hidden states of its own tokens are kept, without padding; of an image, those of all positions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ..data.content_hash import ROW_BYTES, StoredImage, row_hash
from ..data.image_encoder import IMAGE, ORIGIN
from ..data.pairing import FROZEN_STATES
from ..data.soft_label_column import SOFT_LABELS
from ..data.text_encoder import LENGTH, WORD_MASK, without_other_tokenizations
from ..data.weight_column import ROW_WEIGHT
from ..models.content_identity import processing_identity
from ..models.frozen_layers import FrozenLayers
from ..models.module_mode import module_mode
from .feature_pass import PassStatistics, Processes, run_pass
from .feature_store import FEATURES, POSITIONS, FeatureStore, read_array
from .input_rows import Chunk
from .pass_progress import PassProgress

CHUNK_BYTES = 1 << 26  # of the states of a chunk in float32: what a killed pass loses at most
MOST_CHUNK_ROWS = 2048
# Of an encoded row: what is said about it, and its encoder does not stack; then what no layer reads.
NOT_STACKED = ("labels", "domain", WORD_MASK, ROW_WEIGHT, SOFT_LABELS, FROZEN_STATES)
NOT_READ = (*NOT_STACKED, LENGTH, ORIGIN)


@dataclass(frozen=True)
class StateShape:
    """Shape of what frozen layers give for a row.

    Args:
        by_token: a row has a vector for each of its tokens; otherwise it has an array of one shape.
        of_row: (width,) of a token, or the shape of the array.
    """

    by_token: bool
    of_row: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Numbers of a token, or of a row without tokens."""
        return int(np.prod(self.of_row))


class StatesPass:
    """Model of a pass over rows as a run's encoder makes them: the states after its frozen layers.

    Args:
        model: plain or PEFT-wrapped.
        layers: its frozen layers.
        stack: encoded rows to model inputs.
        shape: of the states.
        dtype: that they are kept in, `"float16"` or `"float32"`.
        precision: context of the forward, the run's own.
    """

    def __init__(
        self,
        model: Any,
        layers: FrozenLayers,
        stack: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
        shape: StateShape,
        dtype: str,
        precision: Callable[[], AbstractContextManager[Any]],
    ):
        self.model, self.frozen, self.make_batch = model, layers, stack
        self.shape, self.dtype, self.precision = shape, getattr(torch, dtype), precision
        self.poolings: tuple[str, ...] = ("token",) if shape.by_token else ("all",)
        self.layers: tuple[int, ...] = (layers.count,)

    def encode(self, values: Sequence[Any], names: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]:
        """Rows, which are encoded already, and their lengths."""
        return [dict(row) for row in values], [len(row["input_ids"]) if "input_ids" in row else 1 for row in values]

    def stack(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Model inputs of rows, padded to the longest."""
        return self.make_batch([stacked_columns(row) for row in rows])

    def words(self, rows: Sequence[dict[str, Any]], indices: Sequence[int]) -> np.ndarray:
        """(tokens, 2) row and number of each token, as `pooled` gives them."""
        counts = [sum(rows[row]["attention_mask"]) for row in indices]
        return np.array(
            [(row, token) for row, count in zip(indices, counts, strict=True) for token in range(count)],
            dtype=np.int64,
        ).reshape(-1, 2)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Evaluation mode without gradients, in the run's precision; all as it was afterwards."""
        with torch.no_grad(), module_mode(self.model), self.precision():
            yield

    def pooled(self, batch: dict[str, torch.Tensor], rows: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
        """States of a batch: (tokens, width), row by row without padding; or (rows, numbers)."""
        device = next(self.model.parameters()).device
        inputs = {key: value.to(device) for key, value in batch.items()}
        states = self.frozen.states(self.model, inputs)
        states = states[inputs["attention_mask"].bool()] if self.shape.by_token else states.flatten(1)
        return [states.to(self.dtype)]


@dataclass(frozen=True)
class EncodedRows:
    """Rows of an encoded domain for a pass.

    Args:
        rows: an encoded data set.
        shape: of the states that will be kept.
        chunk_rows: rows of a chunk.
    """

    rows: Any
    shape: StateShape
    chunk_rows: int

    @property
    def kind(self) -> str:
        return "tokens" if self.shape.by_token else "image"

    def chunks(self) -> Iterator[Chunk]:
        """Chunks in turn; a row goes by what the layers read of it, its tokens or the bytes of its image."""
        for start in range(0, len(self.rows), self.chunk_rows):
            numbers = range(start, min(start + self.chunk_rows, len(self.rows)))
            columns = self.rows[list(numbers)]
            values = [{key: values[i] for key, values in columns.items()} for i in range(len(numbers))]
            digest = b"".join(row_hash(_read_of(row)) for row in values)
            yield Chunk(numbers, values, np.frombuffer(digest, dtype=np.uint8).reshape(-1, ROW_BYTES))


class FrozenStates:
    """States of the rows of one domain, memory-mapped; a row is read when it is asked for.

    Args:
        folder: of the set in the cache.
        shape: of the states.
    """

    def __init__(self, folder: Path, shape: StateShape):
        self.folder, self.shape = folder, shape
        self._open()

    def _open(self) -> None:
        self.features = read_array(self.folder / FEATURES)
        self.starts: np.ndarray | None = None
        if self.shape.by_token:
            of_row = np.ascontiguousarray(read_array(self.folder / POSITIONS)[:, 0])
            self.starts = np.searchsorted(of_row, np.arange(int(of_row[-1]) + 2 if len(of_row) else 1))

    def __getitem__(self, row: int) -> np.ndarray:
        """(tokens, width), or an array of the shape of all rows; a copy in memory."""
        if self.starts is None:
            return np.array(self.features[row]).reshape(self.shape.of_row)
        start, stop = (self.starts[min(number, len(self.starts) - 1)] for number in (row, row + 1))
        return np.array(self.features[start:stop])

    def __getstate__(self) -> dict[str, Any]:
        """State for another process, which maps the files itself."""
        return {"folder": self.folder, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["shape"])  # type: ignore[misc]


class StatesCache:
    """Cache of what one model's frozen layers give.

    Args:
        root: folder of the cache.
        states: the model.
        processing: its tokenizer or image processor.
        modality: `"text"` or `"image"`.
        name: of the model, for people.
        batch_size: rows that the model sees at once.

    Attributes:
        statistics: rows that were computed and rows that were read, in this process.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        states: StatesPass,
        processing: Any,
        modality: str,
        name: str,
        batch_size: int = 64,
    ):
        self.states, self.batch_size, self.statistics = states, batch_size, PassStatistics()
        model, layers = states.model, states.frozen
        recipe = {
            "model": layers.identity(model),
            "processor": processing_identity(processing),
            "kind": modality,
            "poolings": [f"states of {'tokens' if states.shape.by_token else 'images'} for training"],
            "layers": [layers.count],
            "shape": list(states.shape.of_row),
            "dtype": str(states.dtype).removeprefix("torch."),
            "device": next(model.parameters()).device.type,
            "precision": _precision(model, states.precision),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        self.store = FeatureStore(root, recipe, {"model": name})

    def of(self, rows: Any, longest: int, progress: bool = False) -> FrozenStates:
        """States of a domain's rows, computed as far as they are not in the cache.

        Processes share the work; each gets the whole. A pass that was killed goes on at its chunk.

        Args:
            rows: encoded, with a length.
            longest: tokens of the longest row; 1 of images.
            progress: show how far it is.

        Raises:
            DiskFullError: the states do not fit on the disk.
            FloatingPointError: states that are not finite, or too large for float16.
        """
        processes = Processes()
        row_bytes = 4 * self.states.shape.numbers * max(1, longest)
        encoded = EncodedRows(rows, self.states.shape, max(1, min(MOST_CHUNK_ROWS, CHUNK_BYTES // row_bytes)))
        with PassProgress(len(rows), progress and processes.rank == 0) as shown:
            stored = run_pass(
                encoded, self.store, lambda: self.states, self.batch_size, shown, self.statistics, processes
            )
        return FrozenStates(
            self.store.sets / self.store.set_key([part.key for part in stored.parts]), self.states.shape
        )


def states_bytes(rows: int, tokens: int, shape: StateShape, dtype: str) -> int:
    """Bytes that states take on the disk.

    Args:
        rows, tokens: in all.
        shape: of the states.
        dtype: that they are kept in.

    Example:
        >>> states_bytes(10, 1000, StateShape(True, (384,)), "float16")
        784000
    """
    units = tokens if shape.by_token else rows
    return units * (shape.numbers * np.dtype(dtype).itemsize + 16)  # where each token belongs takes 16


def stacked_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of an encoded row that its encoder stacks for the model."""
    return {key: value for key, value in without_other_tokenizations(row).items() if key not in NOT_STACKED}


def _read_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of an encoded row the layers read, by content."""
    read = {key: value for key, value in without_other_tokenizations(row).items() if key not in NOT_READ}
    if IMAGE in read:
        image = read[IMAGE]
        read[IMAGE] = np.asarray(image) if hasattr(image, "getpixel") else StoredImage.of(image)
    return read


def _precision(model: Any, precision: Callable[[], AbstractContextManager[Any]]) -> str:
    """Precision of a run's forward: the model's own, and that of autocast."""
    kind = next(model.parameters()).device.type
    with precision():
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return f"{model.dtype}, autocast {autocast}, {torch.get_float32_matmul_precision()}"
