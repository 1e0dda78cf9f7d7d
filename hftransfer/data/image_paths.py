"""Image paths in the rows of a table, made absolute from the folder that the table is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .image_references import absolute_path


def with_absolute_paths(dataset: Any, image_column: str, folder: Path) -> Any:
    """Dataset with the relative paths of the image column, if it holds paths, made absolute; all else stays.

    Args:
        dataset: a `datasets.Dataset`.
        image_column: one of its columns, or none.
        folder: where relative paths start.
    """
    from datasets import Value

    feature = dataset.features.get(image_column)
    if not isinstance(feature, Value) or "string" not in feature.dtype:
        return dataset
    absolute = [absolute_path(path, folder) for path in dataset[image_column][:]]
    columns = dataset.column_names
    replaced = dataset.remove_columns(image_column).add_column(image_column, absolute, feature=feature)
    return replaced.select_columns(columns)
