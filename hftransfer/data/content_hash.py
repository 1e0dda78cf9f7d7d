"""Content hash of rows and data sets: the same in every process and on every day, and another for other content.

Images count by their bytes: a path stands for what its file holds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from datasets import Image

BATCH = 1000  # rows that are read at once
ROW_BYTES = 16


def dataset_hash(dataset: Any, columns: Collection[str] | None = None) -> str:
    """Hash of a data set's rows.

    Args:
        dataset: a `datasets.Dataset`, or `None`.
        columns: that are read; all when `None`.
    """
    state = hashlib.sha256()
    if dataset is None:
        return "none"
    names = [name for name in dataset.column_names if columns is None or name in columns]
    table = dataset.select_columns(names).with_format("arrow")
    state.update(json.dumps([str(table.features[name]) for name in names]).encode())
    images = {name for name in names if isinstance(table.features[name], Image)}
    for start in range(0, len(dataset), BATCH):
        batch = table[start : start + BATCH]
        for name in names:
            for value in batch.column(name).to_pylist():
                add_value(state, StoredImage.of(value) if name in images else value)
    return state.hexdigest()


def row_hash(value: Any) -> bytes:
    """Hash of one input, 16 bytes.

    Args:
        value: a text, a list of words, or an image: `StoredImage`, a PIL image or an array.

    Example:
        >>> row_hash("good") == row_hash("good"), row_hash("good") == row_hash(["good"])
        (True, False)
    """
    state = hashlib.blake2b(digest_size=ROW_BYTES)
    add_value(state, value)
    return state.digest()


class StoredImage(dict):
    """Image as `datasets` stores it, `{"path", "bytes"}`, told from other dicts.

    Example:
        >>> StoredImage.of(b"the bytes of a file")
        {'path': None, 'bytes': b'the bytes of a file'}
    """

    @classmethod
    def of(cls, value: Any) -> Any:
        """Stored image of a path, of bytes or of a dict of both; another value as it is."""
        if isinstance(value, Mapping):
            return cls(path=value.get("path"), bytes=value.get("bytes"))
        if isinstance(value, (str, os.PathLike)):
            return cls(path=os.fspath(value), bytes=None)
        return cls(path=None, bytes=bytes(value)) if isinstance(value, (bytes, bytearray, memoryview)) else value

    def content(self) -> bytes | None:
        """Bytes of the file; `None` where it cannot be read, which is said when the image is opened."""
        if self["bytes"] is not None:
            return bytes(self["bytes"])
        try:
            with open(self["path"], "rb") as file:
                return file.read()
        except (OSError, ValueError, TypeError):  # a null character is a ValueError
            return None


def add_value(state: Any, value: Any) -> None:
    """Value added to the state of a `hashlib` hash, with its kind and its length: no two lists run together."""
    if isinstance(value, StoredImage):
        content = value.content()
        add_value(state, value["path"] if content is None else content)
    elif isinstance(value, bytes):
        state.update(b"b%d:" % len(value) + value)
    elif isinstance(value, np.ndarray):
        add_value(state, f"{value.dtype.str} {value.shape}")
        add_value(state, np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            add_value(state, key)
            add_value(state, item)
    else:
        text = repr(value).encode("utf-8", "surrogatepass")
        state.update(b"%d:" % len(text) + text)
