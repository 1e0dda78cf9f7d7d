"""Keys of images: values that equal images share, by their files or by their pixels, and their sizes in pixels."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Image, Value

from .column_arrays import arrow_column
from .domain_arguments import undecoded
from .image_decoding import open_image
from .row_origins import ORIGIN

PIXELS_UP_TO = 32 * 2**20  # bytes of all images together, up to which they are decoded to be compared
ENDS = 2**16  # bytes at either end of a file that are read
ROWS_AT_ONCE = 256
SIZED_ROWS = 200  # rows whose sizes are read


def image_keys(datasets: Mapping[str, Any], column: str, by_pixels: bool = False) -> dict[str, Any]:
    """Keys that equal images share.

    By files, images are equal where their files have one size and the same bytes at either end (64 KiB each); arrays
    are compared whole. Only files of a size that occurs more than once are read. By pixels, images are decoded and
    compared as RGB, so that a png and a bmp of one picture are equal.

    Args:
        datasets: map-style, by their names in messages.
        column: where images are, in any form that is read elsewhere.
        by_pixels: decode the images.

    Returns:
        pyarrow arrays of text by name; by files, a row has no key where its file cannot be read.

    Raises:
        ImageError: `by_pixels`, and an image cannot be read; the message names the row.
    """
    if by_pixels:
        return {name: _pixel_keys(dataset, column, name) for name, dataset in datasets.items()}
    sizes = {name: [_stored_size(value) for value in _stored(dataset, column)] for name, dataset in datasets.items()}
    counts = Counter(size for of_rows in sizes.values() for size in of_rows)
    return {
        name: pa.array(
            [
                None if size is None else _file_key(value, size) if counts[size] > 1 else str(size)
                for value, size in zip(_stored(dataset, column), sizes[name], strict=True)
            ],
            pa.string(),
        )
        for name, dataset in datasets.items()
    }


def pixels_are_cheap(datasets: Mapping[str, Any], column: str) -> bool:
    """Whether all images together are so small that decoding them takes seconds: 32 MiB as stored at most."""
    total = 0
    for dataset in datasets.values():
        for value in _stored(dataset, column):
            total += _stored_size(value) or 0
            if total > PIXELS_UP_TO:
                return False
    return True


def image_sizes(dataset: Any, column: str) -> tuple[np.ndarray, Counter[str]]:
    """Widths and heights in pixels, and colour modes, of at most 200 rows across a data set; files' headers are read.

    Args:
        dataset: map-style.
        column: where images are.

    Returns:
        (rows, 2) widths and heights, and how often each mode of Pillow occurs (`"RGB"`, `"L"` for grey). Rows that
        cannot be read are left out.
    """
    chosen_rows = np.unique(np.linspace(0, len(dataset) - 1, SIZED_ROWS).round().astype(int))
    sizes, modes = [], Counter[str]()
    for value in _stored(dataset.select(chosen_rows), column):
        try:
            size, mode = _header(value)
        except Exception:  # as various as the formats; whoever decodes the row says what is wrong with it
            continue
        sizes.append(size)
        modes[mode] += 1
    return np.array(sizes, dtype=int).reshape(-1, 2), modes


def _stored(dataset: Any, column: str) -> Iterator[Any]:
    """Images of a column as they are stored: dicts, bytes, paths or arrays."""
    images = undecoded(dataset.with_format(None).select_columns([column]))
    if not isinstance(images.features[column], (Image, Value, dict)):
        images = images.with_format("numpy")
    for batch in images.iter(ROWS_AT_ONCE):
        yield from batch[column]


def _file_or_bytes(value: Any) -> Any:
    """Path or bytes of an image, or the array that it is."""
    if isinstance(value, dict):
        return value["path"] if value.get("bytes") is None else value["bytes"]
    return value


def _stored_size(value: Any) -> int | None:
    """Size of an image in bytes as it is stored; `None` where it cannot be known."""
    value = _file_or_bytes(value)
    if value is None:
        return None
    if isinstance(value, (str, os.PathLike)):
        try:
            return os.stat(value).st_size
        except (OSError, ValueError):  # a null character is a ValueError
            return None
    return len(value) if isinstance(value, (bytes, bytearray)) else int(np.asarray(value).nbytes)


def _file_key(value: Any, size: int) -> str | None:
    """Digest of a file's size and ends, or of a whole array."""
    value = _file_or_bytes(value)
    if isinstance(value, (str, os.PathLike)):
        try:
            with open(value, "rb") as file:
                start = file.read(ENDS)
                file.seek(max(0, size - ENDS))
                content = start + file.read(ENDS)
        except OSError:
            return None
    elif isinstance(value, (bytes, bytearray)):
        content = bytes(value[:ENDS]) + bytes(value[max(0, size - ENDS) :])
    else:
        array = np.asarray(value)
        content = repr((array.shape, str(array.dtype))).encode() + array.tobytes()
    return f"{size} {_digest(content)}"


def _pixel_keys(dataset: Any, column: str, name: str) -> Any:
    """Digests of decoded images."""
    origins = arrow_column(dataset, ORIGIN).to_pylist() if ORIGIN in dataset.column_names else range(len(dataset))
    keys = []
    for origin, value in zip(origins, _stored(dataset, column), strict=True):
        picture = open_image(value, f"{name} row {origin}")
        keys.append(f"{picture.size} {_digest(picture.tobytes())}")
    return pa.array(keys, pa.string())


def _header(value: Any) -> tuple[tuple[int, int], str]:
    """Width and height, and colour mode, of an image that is not decoded; arrays are converted."""
    from io import BytesIO

    from PIL import Image as Pillow

    value = _file_or_bytes(value)
    if isinstance(value, (bytes, bytearray)):
        value = BytesIO(value)
    elif not isinstance(value, (str, os.PathLike)):
        picture = open_image(value, "an image")
        return picture.size, "L" if np.ndim(value) == 2 else picture.mode
    with Pillow.open(value) as picture:
        return picture.size, picture.mode


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
