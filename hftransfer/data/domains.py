"""What a user may pass as a domain, checked before anything else looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict

SPLITS = ("train", "validation", "test")


def as_domain(dataset: Any, where: str) -> Any:
    """The dataset without an output format (torch, numpy …) or decoded images, so that rows hold plain values.

    Args:
        dataset: a map-style or streaming dataset with at least one row.
        where: how messages call it.

    Raises:
        TypeError: something else.
        ValueError: it has no rows.
    """
    if isinstance(dataset, Mapping):
        raise TypeError(f"{where} is a dict of datasets ({', '.join(map(str, dataset))}); pass one of them.")
    if not isinstance(dataset, (Dataset, IterableDataset)):
        raise TypeError(
            f"{where} must be a `datasets.Dataset` or `IterableDataset`, not {type(dataset).__name__}. "
            "`Dataset.from_list`, `from_dict` and `from_pandas` make one of what you have."
        )
    dataset = undecoded(dataset.with_format(None))
    if (len(dataset) if isinstance(dataset, Dataset) else next(iter(dataset), None)) in (0, None):
        raise ValueError(f"{where} is empty: it has no rows.")
    return dataset


def undecoded(dataset: Any) -> Any:
    """The dataset with images as they are stored: a look at a row's label should not decode a picture."""
    for name, feature in (dataset.features or {}).items():
        if isinstance(feature, Image) and feature.decode:
            dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def as_sources(train_dataset: Any) -> dict[str, Any]:
    """One labelled source, or several by name, as a checked dict.

    Raises:
        TypeError, ValueError: as `as_domain`; a missing or empty dict, and splits where domains belong.
    """
    if train_dataset is None:
        raise ValueError("train_dataset is missing: adaptation needs at least one labelled source.")
    if not isinstance(train_dataset, Mapping):
        return {"source": as_domain(train_dataset, "source")}
    if not train_dataset:
        raise ValueError("train_dataset is an empty dict: name at least one labelled source.")
    splits = [name for name in train_dataset if name in SPLITS]
    if splits and isinstance(train_dataset, (DatasetDict, IterableDatasetDict)):
        raise ValueError(
            f"train_dataset holds splits ({', '.join(train_dataset)}), which would all be trained on as so many "
            f"sources. Pass one, train_dataset[{splits[0]!r}], or a plain dict of sources by name."
        )
    return {str(name): as_domain(part, source_label(str(name))) for name, part in train_dataset.items()}


def source_label(name: str) -> str:
    """How messages call a source."""
    return name if name == "source" else f"source {name!r}"
