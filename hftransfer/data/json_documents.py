"""Shapes of JSON documents: which hold rows, and how they come out as columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .row_origins import DataFile

TYPE_NAMES = {dict: "a dict", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
TYPE_NAMES[type(None)] = "null"
SPLITS = {"train", "training", "dev", "val", "valid", "validation", "eval", "test", "testing"}
WANTED = (
    'Wanted is a list of objects, [{"text": …, "label": …}, …], or JSON lines, one such object a line '
    "(pandas: df.to_json(path, orient='records', lines=True))."
)

Columns = dict[str, list]


def columns_of(rows: Sequence[dict[str, Any]]) -> tuple[Columns, list[str]]:
    """Columns of rows, `None` where a row has no such key, and notes on that."""
    names = {name: None for row in rows for name in row}
    columns = {name: [row.get(name) for row in rows] for name in names}
    notes = []
    if set(map(len, rows)) != {len(names)}:
        for name in names:
            lacking = sum(name not in row for row in rows)
            if lacking:
                notes.append(f"{name!r} is not given in {lacking} of {len(rows)} rows")
    return columns, notes


def rows_of(whole: Any, place: DataFile, wanted: Collection[str]) -> tuple[Columns, list[str]]:
    """Columns of a JSON document, and notes on its shape.

    It may be a list of objects; an object that holds one such list; an object of lists, one a column; or a table as
    pandas writes it (`orient` records, table, split, columns or index).

    Args:
        whole: the document.
        place: of its file.
        wanted: columns that are looked for, which tell columns from rows.

    Raises:
        ValueError: it has another shape; the message says which.
    """
    if isinstance(whole, list):
        return _listed(whole, place)
    if not isinstance(whole, dict):
        raise ValueError(f"{place} holds {TYPE_NAMES[type(whole)]} and no rows. {WANTED}")
    if not whole:
        raise ValueError(f"{place} is empty: it has no rows.")
    values = list(whole.values())
    keys = _quoted(whole)
    if _is_split(whole):
        return _split(whole, place)
    if all(isinstance(value, dict) and value for value in values):
        return _nested(whole, place, wanted)
    tables = [key for key, value in whole.items() if _all(value, dict)]
    if all(isinstance(value, list) for value in values) and len(tables) < len(whole):
        return _lists(whole, place, wanted)
    if len(tables) > 1:
        raise ValueError(
            f"{place} is an object with several lists of rows ({_quoted(tables)}). Save each as a file of its own, "
            "named by its split (train.jsonl, test.jsonl)."
        )
    if tables:
        columns, notes = columns_of(whole[tables[0]])
        notes.insert(0, f"rows under {tables[0]!r}")
        index = _table_index(whole)
        if index:
            columns = {name: column for name, column in columns.items() if name not in index}
            notes.append("the index of pandas left aside")
        elif len(whole) > 1:
            notes.append(f"left aside: {_quoted(key for key in whole if key != tables[0])}")
        return columns, notes
    if not any(isinstance(value, (list, dict)) for value in values):
        raise ValueError(f"{place} is one object ({keys}), a single row. {WANTED}")
    raise ValueError(f"{place} is one object ({keys}) in which no list of rows is found. {WANTED}")


def holds_rows(whole: dict[str, Any]) -> bool:
    """Whether an object can hardly be one row, as it holds objects alone, a list of them, or a table."""
    nested = bool(whole) and all(isinstance(value, dict) for value in whole.values())
    return nested or _is_split(whole) or any(_all(value, dict) for value in whole.values())


def _is_split(whole: dict[str, Any]) -> bool:
    known = {"columns", "data"} <= set(whole)
    return known and _all(whole["data"], list) and isinstance(whole["columns"], list)


def _listed(whole: list, place: DataFile) -> tuple[Columns, list[str]]:
    if not whole:
        raise ValueError(f"{place} is empty: it has no rows.")
    if _all(whole, list):
        raise ValueError(
            f"{place} is a list of lists, without column names (pandas' orient='values' writes such). {WANTED}"
        )
    odd = next((i for i, row in enumerate(whole) if not isinstance(row, dict)), None)
    if odd is not None:
        raise ValueError(f"{place.row(odd)} is {TYPE_NAMES[type(whole[odd])]}, not an object. {WANTED}")
    return columns_of(whole)


def _split(whole: dict[str, Any], place: DataFile) -> tuple[Columns, list[str]]:
    names = [str(name) for name in whole["columns"]]
    if len(set(names)) < len(names):
        raise ValueError(f"{place}: two of its columns have one name ({_quoted(names)}). Rename one.")
    for number, row in enumerate(whole["data"]):
        if len(row) != len(names):
            raise ValueError(f"{place.row(number)} has {len(row)} values for {len(names)} columns ({_quoted(names)}).")
    columns = {name: [row[i] for row in whole["data"]] for i, name in enumerate(names)}
    return columns, ["columns and data apart, as pandas' orient='split'"]


def _lists(whole: dict[str, list], place: DataFile, wanted: Collection[str]) -> tuple[Columns, list[str]]:
    sizes = {name: len(column) for name, column in whole.items()}
    if len(whole) == 1 and not set(whole) & set(wanted):
        (name, column), *_ = whole.items()
        if not column:
            raise ValueError(f"{place} is empty: it has no rows under {name!r}.")
        if _all(column, list):
            raise ValueError(f"{place} holds a list of lists under {name!r}, without column names. {WANTED}")
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name!r} has {size}" for name, size in list(sizes.items())[:6])
        raise ValueError(f"{place} is an object of lists of different lengths: {said}. {WANTED}")
    if not next(iter(sizes.values())):
        raise ValueError(f"{place} is empty: its lists have no rows.")
    return dict(whole), ["an object of lists, one a column"]


def _nested(whole: dict[str, dict], place: DataFile, wanted: Collection[str]) -> tuple[Columns, list[str]]:
    """Objects in an object: columns that hold rows, or rows that hold columns."""
    inner = {key for value in whole.values() for key in value}
    if set(whole) <= SPLITS:
        raise ValueError(
            f"{place} is an object of splits ({_quoted(whole)}). Save each as a file of its own, named by its split "
            "(train.jsonl, test.jsonl)."
        )
    by_column = bool(set(whole) & set(wanted)), all(key.isdigit() for key in inner)
    by_row = bool(inner & set(wanted)), all(key.isdigit() for key in whole)
    if by_column == by_row or (by_column > by_row and by_row[0]):
        raise ValueError(f"{place} is an object of objects ({_quoted(whole)}), in which rows are not told. {WANTED}")
    if by_row > by_column:
        columns, notes = columns_of(list(whole.values()))
        return columns, ["rows by index, as pandas' orient='index'; the index left aside", *notes]
    order = list(next(iter(whole.values())))
    for name, column in whole.items():
        if set(column) != set(order):
            odd = sorted(set(column) ^ set(order))[0]
            raise ValueError(f"{place}: not all columns have a value for row {odd!r}, see {name!r}. {WANTED}")
    columns = {name: [column[key] for key in order] for name, column in whole.items()}
    return columns, ["columns by index, as pandas' to_json() writes them; the index left aside"]


def _table_index(whole: dict[str, Any]) -> list[str]:
    """Columns that pandas' orient='table' adds for its index."""
    schema = whole.get("schema")
    if not isinstance(schema, dict) or "pandas_version" not in schema:
        return []
    return [name for name in schema.get("primaryKey", []) if name in ("index", "level_0", "level_1")]


def _all(value: Any, kind: type) -> bool:
    """Whether it is a list of such values, and of some."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)


def _quoted(names: Any) -> str:
    names = [repr(name if len(name) <= 30 else f"{name[:30]}…") for name in map(str, names)]
    return ", ".join(names[:6]) + ", …" * (len(names) > 6)
