"""Captioned images of a data set: the images, and for each its class name or its sentence."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel

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
    for column in (caption_column, image_column):
        if column not in dataset.column_names:
            raise ValueError(
                f"{name} has no column {column!r}; its columns are {', '.join(map(repr, dataset.column_names))}."
                f"{nearest(column, dataset.column_names)}"
            )
    feature, values = dataset.features[caption_column], dataset[caption_column][:]
    if isinstance(feature, ClassLabel):
        values = [None if value is None or value < 0 else feature.int2str(value) for value in values]
    for row, value in enumerate(values):
        if isinstance(value, (int, float)) or (isinstance(value, str) and value.strip().isdigit()):
            raise ValueError(
                f"{name} row {row}: the class is the number {value}, which says nothing. Take a column with names."
            )
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} row {row}: {caption_column!r} holds no name or sentence, but {value!r}.")
    return dataset.select_columns([image_column]), [str(value) for value in values]
