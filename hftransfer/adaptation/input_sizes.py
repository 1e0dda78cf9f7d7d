"""Sizes of inputs by domain: words of texts, pixels of images, tokens and how many of them are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ..data.image_keys import image_sizes

LETTERS_OF_A_WORD = 15  # so many on average are not of words that spaces part, as in Chinese
MODE_NAMES = {"L": "grey", "1": "black and white", "P": "palette", "RGBA": "RGB with transparency"}


@dataclass(frozen=True)
class TextLengths:
    """Lengths of texts: the median, the length that 95 % do not exceed, and the longest.

    Attributes:
        unit: `"words"`, or `"characters"` where no spaces part words.
        cut: share of rows of more tokens than the model is given; `None` where nobody has counted them.
    """

    median: float
    upper: float
    longest: int
    unit: str
    cut: float | None = None

    def __str__(self) -> str:
        lengths = f"texts of {self.median:,.0f} {self.unit} (median; 95 % up to {self.upper:,.0f}, all to "
        return f"{lengths}{self.longest:,}){'' if not self.cut else f', {self.cut:.0%} of them cut to fit the model'}"


@dataclass(frozen=True)
class PictureSizes:
    """Sizes of images in pixels, of at most 200 of them: the smallest, the median, the largest; and colour modes.

    Attributes:
        smallest, median, largest: width and height.
        modes: how many of each mode of Pillow.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    modes: dict[str, int]

    def __str__(self) -> str:
        sizes = " x ".join(map(str, self.median))
        if self.smallest != self.largest:
            ends = [" x ".join(map(str, size)) for size in (self.smallest, self.largest)]
            sizes += f" (median; from {ends[0]} to {ends[1]})"
        return f"images of {sizes} pixels, {' and '.join(MODE_NAMES.get(mode, mode) for mode in self.modes)}"


def text_lengths(keys: Any, cut: float | None = None) -> TextLengths | None:
    """Lengths of texts.

    Args:
        keys: a pyarrow array of the texts, such as `text_keys` makes.
        cut: as in `TextLengths`.

    Returns:
        `None` where there is no text.

    Example:
        >>> import pyarrow as pa
        >>> str(text_lengths(pa.array(["the rain has gone", "rain"])))
        'texts of 2 words (median; 95 % up to 4, all to 4)'
    """
    texts = keys.drop_null()
    if not len(texts):
        return None
    words = pc.count_substring_regex(texts, r"[^\s\x1f]+").to_numpy(zero_copy_only=False)
    letters = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    unit, lengths = (
        ("characters", letters) if letters.sum() > LETTERS_OF_A_WORD * max(1, words.sum()) else ("words", words)
    )
    return TextLengths(float(np.median(lengths)), float(np.percentile(lengths, 95)), int(lengths.max()), unit, cut)


def picture_sizes(dataset: Any, column: str) -> PictureSizes | None:
    """Sizes of images, by area; `None` where none can be read.

    Args:
        dataset: map-style.
        column: where images are.
    """
    sizes, modes = image_sizes(dataset, column)
    if not len(sizes):
        return None
    in_order = sizes[np.argsort(sizes.prod(1), kind="stable")].tolist()
    smallest, median, largest = ((w, h) for w, h in (in_order[0], in_order[len(sizes) // 2], in_order[-1]))
    return PictureSizes(smallest, median, largest, dict(modes.most_common()))
