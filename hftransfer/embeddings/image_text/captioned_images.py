"""Captioned images of a data set: the images, and for each its class name or its sentence."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Number
from typing import Any

from datasets import ClassLabel

from ...data.row_origins import visible
from ...messages import nearest


def captioned_images(
    dataset: Any,
    caption_column: str = "label",
    image_column: str = "image",
    name: str = "the data set",
) -> tuple[Any, list[str]]:
    """Images and captions of a data set.

    Args:
        dataset: a `datasets.Dataset`.
        caption_column: with class names or sentences; of a `ClassLabel`, the names.
        image_column: with the images.
        name: of the data set, for messages.

    Returns:
        The image column as a data set, and one caption a row.

    Raises:
        ValueError: there is no such column, a caption is empty, or classes are numbers without names.

    Example:
        >>> rows = Dataset.from_dict({"image": ["a.png", "b.png"], "label": ["cat", "dog"]})
        >>> captioned_images(rows)[1]
        ['cat', 'dog']
    """
    known = visible(dataset.column_names)
    for column in (caption_column, image_column):
        if column not in known:
            raise ValueError(
                f"{name} has no column {column!r}; its columns are {', '.join(map(repr, known))}."
                f"{nearest(column, known)}"
            )
    feature, values = dataset.features[caption_column], dataset[caption_column][:]
    if isinstance(feature, ClassLabel):
        values = [None if value is None or value < 0 else feature.int2str(value) for value in values]
    return dataset.select_columns([image_column]), checked_captions(values, name, caption_column)


def checked_captions(values: Iterable[Any], name: str, column: str | None = None) -> list[str]:
    """Class names or sentences, one an image.

    Args:
        values: of the rows.
        name: what messages call them.
        column: that they stand in, if they stand in one.

    Raises:
        ValueError: a number, which says nothing of an image, or nothing at all; the message names the row.
    """
    captions = []
    for row, value in enumerate(values):
        if isinstance(value, Number) or (isinstance(value, str) and value.strip().isdigit()):
            where = "Take a column with names." if column else "Give names."
            raise ValueError(f"{name} row {row}: the class is the number {value}, which says nothing. {where}")
        if not isinstance(value, str) or not value.strip():
            held = f"{column!r} holds no name or sentence, but" if column else "there is no name or sentence, but"
            raise ValueError(f"{name} row {row}: {held} {value!r}.")
        captions.append(str(value))
    return captions
