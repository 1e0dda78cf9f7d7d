"""What a user may pass as a domain, checked before anything else looks at it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any

from datasets import Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict

from .dataframes import as_dataset, is_dict_of_columns, is_table_like

SPLITS = ("train", "validation", "test")


def as_domain(dataset: Any, where: str, label: str | None = None, needed: Collection[str] | None = None) -> Any:
    """The dataset without an output format (torch, numpy …) or decoded images, so that rows hold plain values.

    Args:
        dataset: a map-style or streaming dataset with at least one row, or what `as_dataset` makes one of: a
            DataFrame, a list of dicts, a dict of lists.
        where: how messages call it.
        label, needed: the column with labels, and all that will be read; see `as_dataset`.

    Raises:
        TypeError: something else.
        ValueError: it has no rows, or columns that hold values of several kinds.
    """
    if is_table_like(dataset):
        dataset = as_dataset(dataset, where, label, needed)
    if isinstance(dataset, Mapping):
        raise TypeError(f"{where} is a dict of datasets ({', '.join(map(str, dataset))}); pass one of them.")
    if isinstance(dataset, list) and not dataset:
        raise ValueError(f"{where} is empty: it has no rows.")
    if not isinstance(dataset, (Dataset, IterableDataset)):
        raise TypeError(
            f"{where} must be a `datasets.Dataset` or `IterableDataset`, a DataFrame, a list of dicts or a dict of "
            f"lists, not {_kind(dataset)}"
        )
    dataset = undecoded(dataset.with_format(None))
    if (len(dataset) if isinstance(dataset, Dataset) else next(iter(dataset), None)) in (0, None):
        raise ValueError(f"{where} is empty: it has no rows.")
    return dataset


def _kind(given: Any) -> str:
    """What was passed instead, with what to do where that is plain."""
    if isinstance(given, (list, tuple)):
        odd = next((i for i, row in enumerate(given) if not isinstance(row, Mapping)), 0)
        return f"a {type(given).__name__} whose row {odd} is of type {type(given[odd]).__name__}."
    reads = ' Read a file first, such as with pandas or `datasets.load_dataset("csv", data_files=…)`.'
    return f"{type(given).__name__}.{reads if isinstance(given, (str, PathLike)) else ''}"


def undecoded(dataset: Any) -> Any:
    """The dataset with images as they are stored: a look at a row's label should not decode a picture."""
    for name, feature in (dataset.features or {}).items():
        if isinstance(feature, Image) and feature.decode:
            dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def by_name(given: Any, name: str = "source") -> dict[str, Any]:
    """Data sets by name: a dict of them as it is, one alone under `name`; a dict of columns is one."""
    return dict(given) if isinstance(given, Mapping) and not is_dict_of_columns(given) else {name: given}


def as_sources(train_dataset: Any, label: str | None = None, needed: Collection[str] | None = None) -> dict[str, Any]:
    """One labelled source, or several by name, as a checked dict.

    Raises:
        TypeError, ValueError: as `as_domain`; a missing or empty dict, and splits where domains belong.
    """
    if train_dataset is None:
        raise ValueError("train_dataset is missing: adaptation needs at least one labelled source.")
    if not isinstance(train_dataset, Mapping) or is_dict_of_columns(train_dataset):
        return {"source": as_domain(train_dataset, "source", label, needed)}
    if not train_dataset:
        raise ValueError("train_dataset is an empty dict: name at least one labelled source.")
    splits = [name for name in train_dataset if name in SPLITS]
    if splits and isinstance(train_dataset, (DatasetDict, IterableDatasetDict)):
        raise ValueError(
            f"train_dataset holds splits ({', '.join(train_dataset)}), which would all be trained on as so many "
            f"sources. Pass one, train_dataset[{splits[0]!r}], or a plain dict of sources by name."
        )
    return {str(name): as_domain(part, source_label(str(name)), label, needed) for name, part in train_dataset.items()}


def source_label(name: str) -> str:
    """How messages call a source."""
    return name if name == "source" else f"source {name!r}"


def is_source_name(name: str, sources: tuple[str, ...]) -> bool:
    """Whether an evaluation set counts as source: it has a source's name or starts with "source". All others count
    as target, and what reads their labels is called oracle."""
    return name in sources or name.startswith("source")
