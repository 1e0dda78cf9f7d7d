"""Any stored form of an image becomes an RGB picture, or one error that names it.

Pillow is imported inside functions: text needs none.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

LONGEST_TO_SHORTEST = 100  # a processor that fixes the shorter side would blow up a strip of pixels to gigabytes
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def require_pillow() -> None:
    """Raises `ImportError`, with what to install, when Pillow is not there."""
    if importlib.util.find_spec("PIL") is None:
        raise ImportError('Images need Pillow, which is not installed: pip install "hftransfer[vision]".')


def open_image(value: Any, where: str) -> Any:
    """Decodes an image, turns it as its EXIF says, and makes it RGB.

    Grey becomes three equal channels, transparency is laid over black, 16 bits are scaled to 8, CMYK and palettes are
    converted; of an animation it is the first frame.

    Args:
        value: a path, the bytes of a file, a `{"path", "bytes"}` dict as `datasets` stores it, a PIL image, or an
            array: H x W, H x W x C or C x H x W with 1 to 4 channels, integers in 0 … 255 or floats in 0 … 1.
        where: how messages call it, such as `source row 7`; a path is added to it.

    Returns:
        A `PIL.Image.Image` of mode RGB.

    Raises:
        ValueError: it is `None`, no such file, not an image, cut off, larger than `PIL.Image.MAX_IMAGE_PIXELS`, more
            than a hundred times as long as wide, or an array of another shape or range.
    """
    from PIL import Image

    if isinstance(value, dict):
        path, data = value.get("path"), value.get("bytes")
        where = f"{where} ({path})" if path else where
        value = data if data is not None else path
    elif isinstance(value, (str, os.PathLike)):
        where = f"{where} ({os.fspath(value)})"
    if value is None:
        raise ValueError(f"{where}: the image is None. Drop or fill such rows first.")
    if isinstance(value, Image.Image):
        return _decode(value, where)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decode(BytesIO(value), where)
    if isinstance(value, (str, os.PathLike)):
        if not Path(value).is_file():
            raise ValueError(
                f"{where}: there is no such file. A path is taken from the working directory; in a csv or json file "
                "that the recipe reads, from that file's folder."
            )
        with open(value, "rb") as file:
            return _decode(file, where)
    return _to_rgb(_from_array(value, where), where)


def _decode(opened: Any, where: str) -> Any:
    """From a picture that may not have been read yet, or a file."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = opened if isinstance(opened, Image.Image) else Image.open(opened)
            _check_size(image.size, where)
            image.load()
            image = ImageOps.exif_transpose(image)
    except _BadImageError as error:
        raise ValueError(str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(where)) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{where} is no image that Pillow can read. Drop or convert it.") from error
    except Exception as error:  # what a damaged file makes Pillow's readers raise is as various as the formats
        raise ValueError(f"{where} is cut off or damaged ({error}). Drop or replace it.") from error
    return _to_rgb(image, where)


def _to_rgb(image: Any, where: str) -> Any:
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"{where} has values outside 0 … 65535; convert it to 8 bits a channel.")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(_to_bytes(np.asarray(image), where))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(value: Any, where: str) -> Any:
    from PIL import Image

    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "buif":
        raise ValueError(
            f"{where}: {type(value).__name__} is no image. An image is a path, the bytes of a file, a PIL image or a "
            "rectangular array of numbers."
        )
    channels = (1, 2, 3, 4)
    if array.ndim == 3 and array.shape[-1] not in channels and array.shape[0] in channels:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in channels) or 0 in array.shape:
        shape = " x ".join(map(str, np.shape(value)))
        raise ValueError(f"{where}: an array of {shape} is no image: H x W, H x W x C or C x H x W, 1 to 4 channels.")
    try:
        _check_size((array.shape[1], array.shape[0]), where)
    except _BadImageError as error:
        raise ValueError(str(error)) from None
    array = _to_bytes(array, where)
    return Image.fromarray(np.ascontiguousarray(array.squeeze(-1) if array.shape[2:] == (1,) else array))


def _to_bytes(array: np.ndarray, where: str) -> np.ndarray:
    """uint8 of integers in 0 … 255, of floats in 0 … 1, or of truth values."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "ui":
        if array.min() < 0 or array.max() > 255:
            raise ValueError(
                f"{where}: integers from {array.min()} to {array.max()}; an image of integers lies in 0 … 255."
            )
        return array.astype(np.uint8)
    if not np.isfinite(array).all():
        raise ValueError(f"{where} holds values that are not finite (NaN or infinity). Drop or repair it.")
    if array.min() < 0 or array.max() > 1:
        raise ValueError(
            f"{where}: floats from {array.min():g} to {array.max():g}; an image of floats lies in 0 … 1. Scale it, "
            "or cast it to uint8."
        )
    return np.rint(array * 255).astype(np.uint8)


class _BadImageError(Exception):
    """Ours, told from whatever Pillow raises."""


def _check_size(size: tuple[int, int], where: str) -> None:
    from PIL import Image

    width, height = size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise _BadImageError(_too_large(where))
    if max(size) > LONGEST_TO_SHORTEST * min(size):
        raise _BadImageError(
            f"{where} is {width} x {height} pixels, more than {LONGEST_TO_SHORTEST} times as long as wide. Cut it up "
            "or drop it."
        )


def _too_large(where: str) -> str:
    from PIL import Image

    return (
        f"{where} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's guard against decompression bombs. Shrink "
        "it, or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust it."
    )
