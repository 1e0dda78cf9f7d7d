"""Masking of target labels: training code sees none but those that were revealed on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .label_space import declared_names, require_column
from .label_values import label_key, label_name, label_number, read_labels

REVEALED = "revealed_label"


def mask_target_labels(dataset: Any, label_column: str) -> Any:
    """Target dataset without its label column; only a `revealed_label` column from `reveal_labels` stays.

    Args:
        dataset: map-style or streaming dataset.
        label_column: the column that holds the labels; absent is fine.
    """
    columns = dataset.column_names or []
    return dataset.remove_columns(label_column) if label_column in columns else dataset


def reveal_labels(
    dataset: Any,
    per_class: int | None = None,
    indices: Sequence[int] | None = None,
    label_column: str = "label",
    seed: int = 42,
) -> Any:
    """Target dataset with a few labels that training may use (few-shot adaptation).

    The result has a `revealed_label` column: the label where it was revealed, `None` elsewhere. Nothing else of the
    target's labels passes the door.

    Args:
        dataset: a labelled map-style target dataset.
        per_class: how many rows of each class, drawn with `seed`.
        indices: or exactly these rows.
        label_column: where the labels are.
        seed: of the draw.

    Raises:
        ValueError: a stream, no label column, neither or both of `per_class` and `indices`, a class with fewer rows,
            an index out of range.

    Example:
        >>> medical = load_sample_corpus()["medical_validation"]
        >>> few = reveal_labels(medical, per_class=8)
        >>> sum(label is not None for label in few["revealed_label"])
        24
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            "reveal_labels: target_dataset is a stream, whose labels cannot be drawn from. Load it map-style, or "
            "leave reveal_target_labels at 0."
        )
    require_column(dataset, label_column, "target_dataset")
    if (per_class is None) == (indices is None):
        raise ValueError("reveal_labels takes exactly one of per_class and indices.")
    labels = list(dataset[label_column])
    if indices is None:
        assert per_class is not None
        if per_class < 1:
            raise ValueError(f"reveal_labels: per_class={per_class} must be at least 1.")
        column = read_labels(dataset, label_column, "target_dataset")
        numbers = [label_number(value) for value in column.values]
        if column.widths is not None or any(number is not None and not number.is_integer() for number in numbers):
            raise ValueError("reveal_labels: per_class needs one label a row; name the rows with indices instead.")
        rng, declared = np.random.default_rng(seed), declared_names(dataset, label_column)
        rows_by_class: dict[str, list[int]] = {}
        keys = {value: label_key(str(label_name(value))) for value in column.values}
        for i, label in enumerate(labels):
            if label in keys:  # all others are missing
                rows_by_class.setdefault(keys[label], []).append(i)
        row_numbers: list[int] = []
        for key in sorted(rows_by_class):
            rows = rows_by_class[key]
            if len(rows) < per_class:
                class_name = declared[int(key)] if declared and key.isdigit() and int(key) < len(declared) else key
                raise ValueError(
                    f"reveal_labels: class {class_name!r} of target_dataset has {len(rows)} rows, fewer than "
                    f"{per_class}. Reveal fewer, or name the rows with indices."
                )
            row_numbers += [int(i) for i in rng.choice(rows, per_class, replace=False)]
        indices = row_numbers
    out_of_range = [i for i in indices if not 0 <= i < len(labels)]
    if out_of_range:
        raise ValueError(f"reveal_labels: row {out_of_range[0]} is outside 0 … {len(labels) - 1}.")
    revealed = set(indices)
    values = [label if i in revealed else None for i, label in enumerate(labels)]
    return dataset.add_column(REVEALED, values, feature=dataset.features[label_column])
