"""Arrays of whole columns of a data set; iterating over one would read it row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset


def arrow_column(dataset: Dataset, column: str) -> Any:
    """pyarrow array of a column, in the order of the rows.

    Example:
        >>> arrow_column(Dataset.from_dict({"label": ["up", "down"]}), "label").to_pylist()
        ['up', 'down']
    """
    import pyarrow as pa

    values = dataset.with_format("arrow", columns=[column])[:].column(0).combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # of none or several chunks, by version
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def number_column(dataset: Any, column: str) -> np.ndarray:
    """NumPy array of a column of numbers, (rows,) or (rows, width), of a data set or of encoded images."""
    if isinstance(dataset, Dataset):
        return np.asarray(dataset.with_format("numpy", columns=[column])[:][column])
    return np.asarray(dataset[column])
