"""Image decoding: any stored form of an image becomes an RGB picture, or one error that names it.

Pillow is imported inside functions: text needs none.
"""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from io import BytesIO
from typing import Any

import numpy as np

from ..extras import install_hint
from ..messages import shown
from .image_references import path_problem, reference_kind, shown_path

LONGEST_TO_SHORTEST = 100  # a processor that fixes the shorter side would blow up a strip of pixels to gigabytes
SIGNATURE_BYTES = 1024  # bytes of a file that is no image, to say what it is
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class ImageError(ValueError):
    """Error about an image that cannot be used; it names the set, the row and the file.

    A `DataLoader` raises what a worker raised anew, with the worker's whole traceback for a message; of that, the
    message alone is kept.
    """

    def __init__(self, message: str):
        _, marker, last_message = message.rpartition(f"{type(self).__name__}: ")
        super().__init__(last_message.strip() if marker and message.startswith("Caught ") else message)


def require_pillow() -> None:
    """Check that Pillow is installed; raises `ImportError` with what to install."""
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(f"Images need Pillow, which is not installed: {install_hint('vision')}.")


def open_image(value: Any, name: str) -> Any:
    """RGB picture of an image in any stored form, turned as its EXIF says.

    Grey becomes three equal channels, transparency is laid over black, 16 bits are scaled to 8, CMYK and palettes are
    converted; of an animation it is the first frame.

    Args:
        value: a path, the bytes of a file, a `{"path", "bytes"}` dict as `datasets` stores it, a PIL image, or an
            array: H x W, H x W x C or C x H x W with 1 to 4 channels, integers in 0 … 255 or floats in 0 … 1.
        name: of the image in messages, such as `source row 7`; a path is added to it.

    Returns:
        A `PIL.Image.Image` of mode RGB.

    Raises:
        ImageError: it is `None`, no such file, a URL, base64, a folder, empty, not an image, cut off, larger than
            `PIL.Image.MAX_IMAGE_PIXELS`, more than a hundred times as long as wide, or an array of another shape or
            range.
    """
    from PIL import Image

    if isinstance(value, dict):
        path, data = value.get("path"), value.get("bytes")
        name = f"{name} ({shown_path(path)[1:-1]})" if path and data is not None else name
        value = data if data is not None else path
    if value is None:
        raise ImageError(f"{name}: the image is None. Drop or fill such rows first.")
    if isinstance(value, Image.Image):
        return _decode(value, name)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decode(BytesIO(value), name, bytes(value[:SIGNATURE_BYTES]))
    if isinstance(value, (str, os.PathLike)):
        problem = path_problem(os.fspath(value))
        if problem is not None:
            raise ImageError(f"{name}: {problem}")
        name = f"{name} ({shown_path(os.fspath(value))[1:-1]})"
        try:
            file = open(value, "rb")
        except OSError as error:
            raise ImageError(f"{name} cannot be read ({error.strerror}). Drop it, or make it readable.") from error
        with file:
            first_bytes = file.read(SIGNATURE_BYTES)
            file.seek(0)
            return _decode(file, name, first_bytes)
    return _to_rgb(_from_array(value, name), name)


def _decode(image_or_file: Any, name: str, first_bytes: bytes | None = None) -> Any:
    """RGB picture of a PIL image that may not have been read yet, or of a file that starts with `first_bytes`."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = image_or_file if isinstance(image_or_file, Image.Image) else Image.open(image_or_file)
            _check_size(image.size, name)
            image.load()
            image = ImageOps.exif_transpose(image)
    except _BadImageError as error:
        raise ImageError(str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_large(name)) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} {_describe_non_image(first_bytes)}") from error
    except Exception as error:  # what a damaged file makes Pillow's readers raise is as various as the formats
        raise ImageError(f"{name} is cut off or damaged ({error}). Drop or replace it.") from error
    return _to_rgb(image, name)


def _describe_non_image(first_bytes: bytes | None) -> str:
    """Description of bytes that Pillow does not know."""
    if first_bytes == b"":
        return "is empty (0 bytes). Drop or replace it."
    text = (first_bytes or b"").decode("latin-1").strip()
    if text.startswith("version https://git-lfs"):
        return "is a Git LFS pointer, not the image: run `git lfs pull` where it comes from."
    if reference_kind(text) is not None:
        return (
            f"holds {reference_kind(text)} as text ({shown(text)}), not the bytes of an image. Download or decode it "
            "first (`base64.b64decode`)."
        )
    if re.match(r"(<!doctype html|<html)", text, re.IGNORECASE):
        return "is a web page (HTML), no image: its download went wrong. Download it anew or drop it."
    if re.search(r"<svg[\s>]", text):
        return "is an SVG drawing, which Pillow cannot read. Convert it to PNG or drop it."
    return "is no image that Pillow can read. Drop or convert it."


def _to_rgb(image: Any, name: str) -> Any:
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name} has values outside 0 … 65535; convert it to 8 bits a channel.")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        image = Image.fromarray(_to_bytes(np.asarray(image), name))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(value: Any, name: str) -> Any:
    from PIL import Image

    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "buif":
        raise ImageError(
            f"{name}: {type(value).__name__} is no image. An image is a path, the bytes of a file, a PIL image or a "
            "rectangular array of numbers."
        )
    channels = (1, 2, 3, 4)
    if array.ndim == 3 and array.shape[-1] not in channels and array.shape[0] in channels:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in channels) or 0 in array.shape:
        shape = " x ".join(map(str, np.shape(value)))
        description = f"an array of {shape}" if shape else "a single number"
        raise ImageError(f"{name}: {description} is no image: H x W, H x W x C or C x H x W, 1 to 4 channels.")
    try:
        _check_size((array.shape[1], array.shape[0]), name)
    except _BadImageError as error:
        raise ImageError(str(error)) from None
    array = _to_bytes(array, name)
    return Image.fromarray(np.ascontiguousarray(array.squeeze(-1) if array.shape[2:] == (1,) else array))


def _to_bytes(array: np.ndarray, name: str) -> np.ndarray:
    """uint8 array of integers in 0 … 255, of floats in 0 … 1, or of truth values."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "ui":
        if array.min() < 0 or array.max() > 255:
            raise ImageError(
                f"{name}: integers from {array.min()} to {array.max()}; an image of integers lies in 0 … 255."
            )
        return array.astype(np.uint8)
    if not np.isfinite(array).all():
        raise ImageError(f"{name} holds values that are not finite (NaN or infinity). Drop or repair it.")
    if array.min() < 0 or array.max() > 1:
        raise ImageError(
            f"{name}: floats from {array.min():g} to {array.max():g}; an image of floats lies in 0 … 1. Scale it, "
            "or cast it to uint8."
        )
    return np.rint(array * 255).astype(np.uint8)


class _BadImageError(Exception):
    """Error of this module, told from whatever Pillow raises."""


def _check_size(size: tuple[int, int], name: str) -> None:
    """Check of an image's pixels and shape; raises `_BadImageError`."""
    from PIL import Image

    width, height = size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise _BadImageError(_too_large(name))
    if max(size) > LONGEST_TO_SHORTEST * min(size):
        raise _BadImageError(
            f"{name} is {width} x {height} pixels, more than {LONGEST_TO_SHORTEST} times as long as wide. Cut it up "
            "or drop it."
        )


def _too_large(name: str) -> str:
    from PIL import Image

    return (
        f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's guard against decompression bombs. Shrink "
        "it, or raise `PIL.Image.MAX_IMAGE_PIXELS` if you trust it."
    )
