"""Domains as frozen features: rows that are passed or named, their labels by name, and what a model makes of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.domain_arguments import as_domain
from ..data.domain_loading import load_domain
from ..data.label_space import column_names, declared_names, require_column
from ..data.label_space_resolution import resolve_label_space
from ..data.label_values import has_labels, label_key, label_name
from ..data.row_origins import ORIGIN
from ..data.task_inference import read_dataset_labels
from ..embeddings.embedder import Embedder
from ..messages import nearest
from ..setting_ranges import read_number
from ..stages import stage

FEWEST_ROWS = 10


@dataclass(frozen=True)
class RowOptions:
    """Options of how rows are read and embedded; see `rank_checkpoints`.

    Raises:
        TypeError: an option of `Embedder` that it does not have.
        ValueError: a number out of its range.
    """

    label_column: str = "label"
    text_column: str | None = None
    image_column: str | None = None
    max_rows: int | None = 2000
    resamples: int = 1000
    seed: int = 42
    embedding: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_rows", "resamples", "seed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_number(name, getattr(self, name)))
        if self.text_column and self.image_column:
            raise ValueError("text_column and image_column are both given: a checkpoint reads one of them.")
        known = [name for name in inspect.signature(Embedder).parameters if name not in ("model", "column")]
        unknown = next((name for name in self.embedding if name not in known), None)
        if unknown is not None:
            raise TypeError(
                f"There is no option {unknown!r}; Embedder has {', '.join(known)}.{nearest(unknown, known)}"
            )

    @property
    def column(self) -> str | None:
        """Column that is embedded; found when `None`."""
        return self.text_column or self.image_column

    def embedder(self, model: Any) -> Embedder:
        """Embedder of the column, which loads the model once."""
        return Embedder(model, column=self.column, **self.embedding)


@dataclass(frozen=True)
class FrozenDomain:
    """Rows of a domain, and their labels by name.

    Attributes:
        name: in tables.
        rows: a map-style dataset.
        labels: (n,) names, `None` of a row without; `None` of a domain without labels.
    """

    name: str
    rows: Any
    labels: tuple[str | None, ...] | None

    def features(self, embedder: Embedder) -> np.ndarray:
        """(n, d) features of the rows, from the cache where they are in it."""
        with stage(f"embedding {self.name}"):
            return np.asarray(embedder.transform(self.rows), dtype=np.float64)


def read_domain(name: str, rows: Any, options: RowOptions, target: bool = False) -> FrozenDomain:
    """Rows of a domain with their labels, at most as many as the options say, drawn by the seed.

    Args:
        name: in tables and messages.
        rows: a dataset, DataFrame, list of dicts or dict of lists, or what `load_shift` loads, by its name; of that
            the train split.
        options: which columns.
        target: labels may be missing; where there are any they are oracle.

    Raises:
        ValueError: a stream, fewer than ten rows, no label column, labels that are missing or not one class a row, or
            one class only.
    """
    role = "target" if target else "source"
    if isinstance(rows, (str, Path)):
        rows = load_domain(
            str(rows), role, options.image_column or "image", None, options.label_column, (options.text_column,)
        )["train"]
    needed = {options.label_column, options.column} if options.column else None
    rows = as_domain(rows, name, options.label_column, needed)
    if not hasattr(rows, "__len__"):
        raise ValueError(f"{name} is a stream. Read some of it first: `Dataset.from_list(list(stream.take(2000)))`.")
    if len(rows) < FEWEST_ROWS:
        raise ValueError(f"{name} has {len(rows)} rows; {FEWEST_ROWS} are needed at least.")
    if options.max_rows is not None and len(rows) > options.max_rows:
        chosen = np.random.default_rng(options.seed).choice(len(rows), options.max_rows, replace=False)
        rows = rows.select(np.sort(chosen))
    return FrozenDomain(name, rows, _label_names(name, rows, options.label_column, target))


def _label_names(name: str, rows: Any, label_column: str, target: bool) -> tuple[str | None, ...] | None:
    """(n,) label names, as they are written; `None` for a target without."""
    if target and (label_column not in column_names(rows) or not has_labels(rows, label_column, name)):
        return None
    if target:
        declared = declared_names(rows, label_column)
        return tuple(_oracle_name(value, declared) for value in rows[label_column])
    require_column(rows, label_column, name)
    space = resolve_label_space({name: rows}, label_column, merge_case=False)
    if space.task != "sequence-classification":
        raise ValueError(
            f"{name}: the labels in {label_column!r} are those of {space.task}; one class a row is needed."
        )
    origins = rows[ORIGIN] if ORIGIN in rows.column_names else range(len(rows))
    encoder = read_dataset_labels(name, rows, label_column).encoder(space, label_column)
    return tuple(space.names[i] for i in encoder.encode_rows(rows[label_column], origins))


def _oracle_name(value: Any, declared: tuple[str, ...] | None) -> str | None:
    """Name of a target label; whatever it is, it refuses nothing."""
    if declared and isinstance(value, int):
        return declared[value] if 0 <= value < len(declared) else None
    return label_name(value)


class SharedLabels:
    """Label set of several domains, matched by name.

    Args:
        domains: labelled ones.

    Attributes:
        names: one spelling of each class that occurs.
    """

    def __init__(self, domains: Mapping[str, FrozenDomain]):
        spellings: dict[str, str] = {}
        for domain in domains.values():
            for name in domain.labels or ():
                spellings.setdefault(label_key(str(name)), str(name))
        self.names = tuple(spellings.values())
        self._ids = {key: i for i, key in enumerate(spellings)}

    def ids(self, domain: FrozenDomain) -> np.ndarray:
        """(n,) ids of a domain's labels; -1 where there is none, or none of the domains has it."""
        return np.array([-1 if name is None else self._ids.get(label_key(name), -1) for name in domain.labels or ()])
