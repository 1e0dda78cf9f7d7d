"""Files joined to one split: their columns must agree, and no rows may be there twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .row_origins import ORIGIN, visible

PLAIN_TYPES = ("int", "uint", "float", "string", "large_string")  # types that may stand beside each other


def joined(parts: Sequence[tuple[Path, Any]], name: str) -> Any:
    """Datasets of several files as one: their columns must be the same, in any order.

    Text beside numbers makes text of both, as csv beside jsonl has it.

    Raises:
        ValueError: other columns or types in one file than in another, or the same rows in two; both are named.
    """
    from datasets import Features, concatenate_datasets

    (first, base), *others = parts
    columns = visible(base.column_names)
    for path, part in others:
        mine = visible(part.column_names)
        if set(mine) != set(columns):
            raise ValueError(
                f"{name}: {str(first)!r} has the columns {', '.join(map(repr, columns))} and {str(path)!r} has "
                f"{', '.join(map(repr, mine))}. Files of one split need the same columns: give one of them alone, "
                "move the other away, or name the files by split."
            )
    _refuse_copies(parts, name)
    if not others:
        return base
    order = [*columns, ORIGIN] if ORIGIN in base.column_names else columns
    chosen: dict[str, Any] = {}
    for column in order:
        kinds = [part.features[column] for _, part in parts]
        chosen[column] = _common(kinds)
        if chosen[column] is None:
            odd = next(path for (path, _), kind in zip(parts, kinds, strict=True) if kind != kinds[0])
            raise ValueError(
                f"{name}: {column!r} is of another kind in {str(odd)!r} than in {str(first)!r}. Write both files the "
                "same way."
            )
    features = Features(chosen)
    return concatenate_datasets([_cast(part.select_columns(order), features) for _, part in parts])


def _cast(dataset: Any, features: Any) -> Any:
    """With these features; in one go, as tables in memory can be."""
    from datasets import Dataset, DatasetInfo

    if dataset.features == features:
        return dataset
    table = dataset.with_format("arrow")[:].cast(features.arrow_schema)
    return Dataset(table, info=DatasetInfo(features=features))


def _common(kinds: Sequence[Any]) -> Any | None:
    """The type that holds the values of several: numbers widen, numbers beside text become text; `None` for others."""
    from datasets import Value

    known = [kind for kind in kinds if getattr(kind, "dtype", None) != "null"] or list(kinds)
    if all(kind == known[0] for kind in known):
        return known[0]
    types = {kind.dtype if isinstance(kind, Value) else "" for kind in known}
    if all(kind.startswith(("int", "uint")) for kind in types):
        return Value("int64")
    if all(kind.startswith(("int", "uint", "float")) for kind in types):
        return Value("float64")
    return Value("string") if all(kind.startswith(PLAIN_TYPES) for kind in types) else None


def _refuse_copies(parts: Sequence[tuple[Path, Any]], name: str) -> None:
    """Refuses one table in two files, such as train.csv beside train.jsonl: its rows would count twice."""
    for i, (path, part) in enumerate(parts):
        for other, rows in parts[:i]:
            if len(rows) == len(part) > 1 and all(_alike_rows(rows, part, n) for n in (slice(0, 3), slice(None))):
                raise ValueError(
                    f"{name}: {str(other)!r} and {str(path)!r} hold the same rows. Remove one of them, or give the "
                    "one to read instead of the folder."
                )


def _alike_rows(one: Any, other: Any, which: slice) -> bool:
    columns = [c for c in visible(one.column_names) if not hasattr(one.features[c], "decode")]
    if len(columns) < len(visible(one.column_names)):
        return False  # images were compared by path already
    here, there = one[which], other[which]
    return all([str(v) for v in here[c]] == [str(v) for v in there[c]] for c in columns)
