"""Input rows of a feature pass: texts, lists of words or images from any kind of data set, in chunks with hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from datasets import Dataset, Image, IterableDataset, List, Value

from ..data.content_hash import ROW_BYTES, StoredImage, row_hash
from ..data.dataframes import as_dataset, is_table_like
from ..data.domain_arguments import undecoded
from ..data.image_decoding import open_image, require_pillow
from ..data.label_space import column_names
from ..data.row_origins import visible
from ..data.text_encoder import checked_texts
from ..messages import nearest

Kind = Literal["text", "tokens", "image"]
NAME = "rows"  # what messages call the data, where nobody says better
# Rows of a chunk: what a killed pass loses at most, and what is sorted by length at once.
CHUNK_ROWS: dict[Kind, int] = {"text": 2048, "tokens": 2048, "image": 256}


@dataclass(frozen=True)
class Chunk:
    """Chunk of rows.

    Args:
        numbers: of the rows in the data set.
        values: checked inputs.
        hashes: (rows, 16) bytes, one hash a row.
        data: what messages call the data.
    """

    numbers: Sequence[int]
    values: list[Any]
    hashes: np.ndarray
    data: str = NAME

    @property
    def key(self) -> str:
        """Hash of all its rows."""
        return hashlib.blake2b(self.hashes.tobytes(), digest_size=16).hexdigest()

    def names(self) -> list[str]:
        """Names of the rows in messages."""
        return [f"{self.data} row {number}" for number in self.numbers]

    def select(self, places: Sequence[int]) -> Chunk:
        """Chunk of some of its rows, by their places in it."""
        chosen = list(map(int, places))
        numbers, values = [self.numbers[i] for i in chosen], [self.values[i] for i in chosen]
        return Chunk(numbers, values, self.hashes[chosen], self.data)


@dataclass(frozen=True)
class InputRows:
    """Inputs of a pass, of one kind.

    Args:
        kind: `"text"`, `"tokens"` (lists of words) or `"image"`.
        rows: a sequence of values, or a data set.
        column: of the data set; `None` where `rows` are the values.
        data: what messages call the data.
    """

    kind: Kind
    rows: Any
    column: str | None = None
    data: str = NAME

    @property
    def modality(self) -> Literal["text", "image"]:
        return "image" if self.kind == "image" else "text"

    @property
    def count(self) -> int | None:
        """Number of rows; `None` of a stream."""
        return len(self.rows) if hasattr(self.rows, "__len__") else None

    def chunks(self) -> Iterator[Chunk]:
        """Chunks in turn.

        Raises:
            ValueError: a row that holds no text or no image; the message names it.
        """
        start = 0
        for values in self._slices(CHUNK_ROWS[self.kind]):
            numbers = range(start, start + len(values))
            checked = self._checked(values, list(map(str, numbers)))
            digest = b"".join(row_hash(np.asarray(v) if hasattr(v, "getpixel") else v) for v in checked)
            hashes = np.frombuffer(digest, dtype=np.uint8).reshape(-1, ROW_BYTES)
            yield Chunk(numbers, checked, hashes, self.data)
            start += len(values)

    def _slices(self, size: int) -> Iterator[list[Any]]:
        if self.column is None:
            for start in range(0, len(self.rows), size):
                yield [self.rows[row] for row in range(start, min(start + size, len(self.rows)))]
        elif isinstance(self.rows, Dataset):
            for start in range(0, len(self.rows), size):
                yield list(self.rows[start : start + size][self.column])
        else:
            stream = iter(self.rows)
            start = 0
            while rows := list(islice(stream, size)):
                lacking = next((i for i, row in enumerate(rows) if self.column not in row), None)
                if lacking is not None:
                    raise ValueError(f"{self.data} row {start + lacking} has no column {self.column!r}.")
                yield [row[self.column] for row in rows]
                start += len(rows)

    def _checked(self, values: list[Any], names: Sequence[str]) -> list[Any]:
        if self.kind == "image":
            return [_image(value, f"{self.data} row {name}") for value, name in zip(values, names, strict=True)]
        return checked_texts(values, names, self.column or "the text", self.data, self.kind == "tokens")


def input_rows(rows: Any, column: str | None = None, model_modality: str | None = None, data: str = NAME) -> InputRows:
    """Inputs of a pass, from whatever holds them.

    Args:
        rows: a list of texts, of lists of words or of images (PIL, paths, bytes, arrays); a numpy array or a pandas
            Series of such; a `datasets.Dataset` or `IterableDataset`, a DataFrame, a list of dicts or a dict of lists;
            or what this function has given, which is given again.
        column: of a data set; found by its name (`text`, `tokens`, `image`), or as the only one of its kind.
        model_modality: what the model reads, `"text"` or `"image"`, where that is known: texts are paths for a model
            of images.
        data: what messages call the data.

    Raises:
        TypeError: something else.
        ValueError: no rows, or no such column.
    """
    if isinstance(rows, InputRows):
        return rows
    if isinstance(rows, (str, bytes, os.PathLike)):
        raise TypeError(f"{data} is one {type(rows).__name__}; pass a list of them, or a dataset.")
    if isinstance(rows, (list, tuple)) and rows and isinstance(rows[0], Mapping) and set(rows[0]) <= {"path", "bytes"}:
        return InputRows("image", rows, data=data)
    if is_table_like(rows):
        rows = as_dataset(rows, data, None, None if column is None else [column])
    if isinstance(rows, Mapping):
        raise TypeError(f"{data} is a dict of datasets ({', '.join(map(str, rows))}); pass one of them.")
    if isinstance(rows, (Dataset, IterableDataset)):
        return _from_dataset(rows, column, model_modality, data)
    if column is not None:
        raise ValueError(f"column={column!r} names a column of a data set, and {data} is a {type(rows).__name__}.")
    if isinstance(rows, np.ndarray) and rows.ndim == 1:
        rows = rows.tolist()
    elif hasattr(rows, "iloc"):
        rows = list(rows)
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        raise TypeError(
            f"{data} must be a list of texts or images, a dataset or a DataFrame, not {type(rows).__name__}."
        )
    if not len(rows):
        raise ValueError(f"{data} is empty: it has no rows.")
    return InputRows(_kind(_kind_of_value(rows[0], model_modality), rows[0], model_modality, data), rows, data=data)


def _from_dataset(dataset: Any, column: str | None, model_modality: str | None, data: str) -> InputRows:
    dataset = undecoded(dataset.with_format(None))
    if isinstance(dataset, Dataset) and not len(dataset):
        raise ValueError(f"{data} is empty: it has no rows.")
    columns, first = column_names(dataset), None
    if not dataset.features or not columns:  # a stream that does not say what it holds
        first = next(iter(dataset), None)
        if first is None:
            raise ValueError(f"{data} is empty: the stream has no rows.")
        columns = list(first)
    columns = visible(columns)
    if column is not None and column not in columns:
        raise ValueError(
            f"{data} has no column {column!r}; its columns are {', '.join(map(repr, columns))}."
            f"{nearest(column, columns)}"
        )
    kinds = {
        name: _kind_of_value(first[name], _paths(name, column, model_modality))
        if first is not None
        else _kind_of_feature(dataset.features[name], _paths(name, column, model_modality))
        for name in columns
    }
    column = column or _found_column(kinds, model_modality, data)
    kind = _kind(kinds[column], None if first is None else first[column], model_modality, data)
    if first is None:
        dataset = dataset.select_columns([column])  # others are not read
    if isinstance(dataset, Dataset) and kind == "image" and kinds[column] is None:
        dataset = dataset.with_format("numpy")
    return InputRows(kind, dataset, column, data)


def _found_column(kinds: Mapping[str, Kind | None], model_modality: str | None, data: str) -> str:
    """Column with the inputs: the one with the usual name, or the only one of a kind that the model reads."""
    usual: list[Kind] = ["image", "text", "tokens"] if model_modality != "text" else ["text", "tokens"]
    usual = ["image"] if model_modality == "image" else usual
    for name in usual:
        if name in kinds:
            return name
    for kind in usual:
        of_kind = [name for name, its_kind in kinds.items() if its_kind == kind]
        if len(of_kind) == 1:
            return of_kind[0]
    raise ValueError(
        f"{data} has no column {' or '.join(map(repr, usual))}, and its columns ({', '.join(map(repr, kinds))}) do "
        "not say which is meant: name it with `column`."
    )


def _paths(name: str, column: str | None, model_modality: str | None) -> str | None:
    """What texts in a column are: paths in one called `image`, and in one that is named for a model of images."""
    return "image" if name == "image" else model_modality if name == column else None


def _kind_of_feature(feature: Any, model_modality: str | None) -> Kind | None:
    if isinstance(feature, Image):
        return "image"
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        return "image" if model_modality == "image" else "text"
    item = getattr(feature, "feature", None) if isinstance(feature, List) else None
    return "tokens" if isinstance(item, Value) and item.dtype in ("string", "large_string") else None


def _kind(found: Kind | None, first: Any, model_modality: str | None, data: str) -> Kind:
    """Kind of rows: what was found; where that says nothing, what the model reads, and a check of each row says more.

    Raises:
        ValueError: the model reads something else.
    """
    if found is None:
        words = isinstance(first, (list, tuple))
        return "image" if model_modality != "text" else "tokens" if words else "text"
    if model_modality is not None and (found == "image") != (model_modality == "image"):
        held = {"image": "images", "text": "texts", "tokens": "lists of words"}[found]
        reads = "images are" if model_modality == "image" else "text is"
        raise ValueError(f"{data} hold {held}, and {reads} read here. Give other rows, or another model.")
    return found


def _kind_of_value(value: Any, model_modality: str | None) -> Kind | None:
    if isinstance(value, str):
        return "image" if model_modality == "image" else "text"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        return "tokens"
    is_image = hasattr(value, "getpixel") or isinstance(value, (bytes, bytearray, os.PathLike, Mapping))
    try:
        return "image" if is_image or np.ndim(value) in (2, 3) else None
    except ValueError:  # lists of several lengths
        return None


def _image(value: Any, name: str) -> Any:
    """Image as it is hashed: a stored one, an array, or the RGB picture of a PIL image, turned as its EXIF says."""
    if hasattr(value, "getpixel"):
        require_pillow()
        return open_image(value, name)
    return StoredImage.of(value) if isinstance(value, (str, bytes, bytearray, Mapping, os.PathLike)) else value
