"""Checks of the domains that a user passes: datasets, DataFrames, lists of rows, dicts of columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any

from datasets import Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict

from ..settings import text_keys
from .dataframes import as_dataset, is_dict_of_columns, is_table_like

SPLITS = ("train", "validation", "test")


def as_domain(dataset: Any, name: str, label: str | None = None, needed_columns: Collection[str] | None = None) -> Any:
    """Checked dataset without an output format (torch, numpy …) or decoded images, so that rows hold plain values.

    Args:
        dataset: a map-style or streaming dataset with at least one row, or what `as_dataset` makes one of: a
            DataFrame, a list of dicts, a dict of lists.
        name: of the dataset, for messages.
        label, needed_columns: the column with labels, and all that will be read; see `as_dataset`.

    Raises:
        TypeError: something else.
        ValueError: it has no rows, or columns that hold values of several kinds.
    """
    if is_table_like(dataset):
        dataset = as_dataset(dataset, name, label, needed_columns)
    if isinstance(dataset, Mapping):
        raise TypeError(f"{name} is a dict of datasets ({', '.join(map(str, dataset))}); pass one of them.")
    if isinstance(dataset, list) and not dataset:
        raise ValueError(f"{name} is empty: it has no rows.")
    if not isinstance(dataset, (Dataset, IterableDataset)):
        raise TypeError(
            f"{name} must be a `datasets.Dataset` or `IterableDataset`, a DataFrame, a list of dicts or a dict of "
            f"lists, not {_describe_argument(dataset)}"
        )
    dataset = undecoded(dataset.with_format(None))
    if (len(dataset) if isinstance(dataset, Dataset) else next(iter(dataset), None)) in (0, None):
        raise ValueError(f"{name} is empty: it has no rows.")
    return dataset


def _describe_argument(argument: Any) -> str:
    """Description of a value that is no domain, with what to do where that is plain."""
    if isinstance(argument, (list, tuple)):
        row_number = next((i for i, row in enumerate(argument) if not isinstance(row, Mapping)), 0)
        return f"a {type(argument).__name__} whose row {row_number} is of type {type(argument[row_number]).__name__}."
    remedy = ' Read a file first, such as with pandas or `datasets.load_dataset("csv", data_files=…)`.'
    return f"{type(argument).__name__}.{remedy if isinstance(argument, (str, PathLike)) else ''}"


def undecoded(dataset: Any) -> Any:
    """Dataset with images as they are stored: a look at a row's label should not decode a picture."""
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, Image) and feature.decode:
            dataset = dataset.cast_column(column, Image(decode=False))
    return dataset


def by_name(datasets: Any, name: str = "source", what: str = "train_dataset") -> dict[str, Any]:
    """Data sets by name: a dict of them by names as texts, one alone under `name`; a dict of columns is one.

    Args:
        datasets: one, or a dict of several.
        name: of one alone.
        what: what messages call the dict.

    Raises:
        ValueError: two names that are written alike, such as 1 and "1".

    Example:
        >>> by_name({1: "a.csv", "b": "b.csv"})
        {'1': 'a.csv', 'b': 'b.csv'}
    """
    if isinstance(datasets, Mapping) and not is_dict_of_columns(datasets):
        return text_keys(datasets, what)
    return {name: datasets}


def as_sources(
    train_dataset: Any, label: str | None = None, needed_columns: Collection[str] | None = None
) -> dict[str, Any]:
    """Checked sources by name, from one labelled dataset or several.

    Raises:
        TypeError, ValueError: as `as_domain`; a missing or empty dict, and splits where domains belong.
    """
    if train_dataset is None:
        raise ValueError("train_dataset is missing: adaptation needs at least one labelled source.")
    if not isinstance(train_dataset, Mapping) or is_dict_of_columns(train_dataset):
        return {"source": as_domain(train_dataset, "source", label, needed_columns)}
    if not train_dataset:
        raise ValueError("train_dataset is an empty dict: name at least one labelled source.")
    splits = [name for name in train_dataset if name in SPLITS]
    if splits and isinstance(train_dataset, (DatasetDict, IterableDatasetDict)):
        raise ValueError(
            f"train_dataset holds splits ({', '.join(train_dataset)}), which would all be trained on as so many "
            f"sources. Pass one, train_dataset[{splits[0]!r}], or a plain dict of sources by name."
        )
    return {
        name: as_domain(dataset, source_label(name), label, needed_columns)
        for name, dataset in by_name(train_dataset).items()
    }


def source_label(name: str) -> str:
    """Name of a source in messages."""
    return name if name == "source" else f"source {name!r}"


def is_source_name(name: str, sources: tuple[str, ...]) -> bool:
    """Whether an evaluation set counts as source: it has a source's name or starts with "source".

    All others count as target, and what reads their labels is called oracle.
    """
    return name in sources or name.startswith("source")
