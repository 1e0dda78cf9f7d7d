"""Counts of classes in the raw rows of a labelled data set, before anything is encoded."""

from __future__ import annotations

from typing import Any

import numpy as np

from .label_space import LISTS, LabelSpace
from .label_space_resolution import with_lists
from .task_inference import read_dataset_labels


def count_classes(dataset: Any, space: LabelSpace, label_column: str, name: str) -> np.ndarray:
    """Rows of each class; in tagging, words of each tag.

    Args:
        dataset: map-style, labelled; its labels have been checked against the label space.
        space: of the run, not one of regression.
        label_column: where labels are.
        name: of the dataset in messages.

    Returns:
        (classes,) integers, in the order of the label space.

    Raises:
        ValueError: labels that cannot be read, with the row.

    Example:
        >>> from hftransfer.data.label_space import LabelSpace
        >>> rows = Dataset.from_dict({"label": ["up", "down", "up"]})
        >>> count_classes(rows, LabelSpace("sequence-classification", ("down", "flat", "up")), "label", "source")
        array([1, 0, 2])
    """
    labels = read_dataset_labels(name, dataset, label_column)
    if space.task in LISTS:
        labels = with_lists(labels, space)
    counts = np.zeros(len(space.names), dtype=int)
    if labels.column is not None:
        encoder = labels.encoder(space, label_column)
        for value, count in zip(labels.column.values, labels.column.counts, strict=True):
            class_id = encoder.id_of(value)
            if class_id is not None:
                counts[class_id] += count
    return counts
