"""Layouts of JSON documents: which of them hold rows, and the columns of those."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .row_origins import DataFile

TYPE_NAMES = {dict: "a dict", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
TYPE_NAMES[type(None)] = "null"
SPLITS = {"train", "training", "dev", "val", "valid", "validation", "eval", "test", "testing"}
EXPECTED = (
    'Wanted is a list of objects, [{"text": …, "label": …}, …], or JSON lines, one such object a line '
    "(pandas: df.to_json(path, orient='records', lines=True))."
)

Columns = dict[str, list]


def rows_to_columns(rows: Sequence[dict[str, Any]]) -> tuple[Columns, list[str]]:
    """Columns of rows, `None` where a row has no such key, and notes on that."""
    names = {name: None for row in rows for name in row}
    columns = {name: [row.get(name) for row in rows] for name in names}
    notes = []
    if set(map(len, rows)) != {len(names)}:
        for name in names:
            missing = sum(name not in row for row in rows)
            if missing:
                notes.append(f"{name!r} is not given in {missing} of {len(rows)} rows")
    return columns, notes


def document_to_columns(
    document: Any, data_file: DataFile, used_columns: Collection[str]
) -> tuple[Columns, list[str]]:
    """Columns of a JSON document, and notes on its layout.

    It may be a list of objects; an object that holds one such list; an object of lists, one a column; or a table as
    pandas writes it (`orient` records, table, split, columns or index).

    Args:
        document: the document.
        data_file: of its file.
        used_columns: columns that are looked for, which tell columns from rows.

    Raises:
        ValueError: it has another shape; the message says which.
    """
    if isinstance(document, list):
        return _columns_of_list(document, data_file)
    if not isinstance(document, dict):
        raise ValueError(f"{data_file} holds {TYPE_NAMES[type(document)]} and no rows. {EXPECTED}")
    if not document:
        raise ValueError(f"{data_file} is empty: it has no rows.")
    values = list(document.values())
    keys = _shown_names(document)
    if _is_split_table(document):
        return _columns_of_split_table(document, data_file)
    if all(isinstance(value, dict) and value for value in values):
        return _columns_of_nested(document, data_file, used_columns)
    tables = [key for key, value in document.items() if _is_list_of(value, dict)]
    if all(isinstance(value, list) for value in values) and len(tables) < len(document):
        return _columns_of_lists(document, data_file, used_columns)
    if len(tables) > 1:
        raise ValueError(
            f"{data_file} is an object with several lists of rows ({_shown_names(tables)}). Save each as a file of "
            "its own, named by its split (train.jsonl, test.jsonl)."
        )
    if tables:
        columns, notes = rows_to_columns(document[tables[0]])
        notes.insert(0, f"rows under {tables[0]!r}")
        index = _table_index(document)
        if index:
            columns = {name: column for name, column in columns.items() if name not in index}
            notes.append("the index of pandas left aside")
        elif len(document) > 1:
            notes.append(f"left aside: {_shown_names(key for key in document if key != tables[0])}")
        return columns, notes
    if not any(isinstance(value, (list, dict)) for value in values):
        raise ValueError(f"{data_file} is one object ({keys}), a single row. {EXPECTED}")
    raise ValueError(f"{data_file} is one object ({keys}) in which no list of rows is found. {EXPECTED}")


def holds_rows(document: dict[str, Any]) -> bool:
    """Whether an object can hardly be one row, as it holds objects alone, a list of them, or a table."""
    nested = bool(document) and all(isinstance(value, dict) for value in document.values())
    return nested or _is_split_table(document) or any(_is_list_of(value, dict) for value in document.values())


def _is_split_table(document: dict[str, Any]) -> bool:
    known = {"columns", "data"} <= set(document)
    return known and _is_list_of(document["data"], list) and isinstance(document["columns"], list)


def _columns_of_list(document: list, data_file: DataFile) -> tuple[Columns, list[str]]:
    if not document:
        raise ValueError(f"{data_file} is empty: it has no rows.")
    if _is_list_of(document, list):
        raise ValueError(
            f"{data_file} is a list of lists, without column names (pandas' orient='values' writes such). {EXPECTED}"
        )
    odd_row = next((i for i, row in enumerate(document) if not isinstance(row, dict)), None)
    if odd_row is not None:
        raise ValueError(
            f"{data_file.row(odd_row)} is {TYPE_NAMES[type(document[odd_row])]}, not an object. {EXPECTED}"
        )
    return rows_to_columns(document)


def _columns_of_split_table(document: dict[str, Any], data_file: DataFile) -> tuple[Columns, list[str]]:
    names = [str(name) for name in document["columns"]]
    if len(set(names)) < len(names):
        raise ValueError(f"{data_file}: two of its columns have one name ({_shown_names(names)}). Rename one.")
    for number, row in enumerate(document["data"]):
        if len(row) != len(names):
            raise ValueError(
                f"{data_file.row(number)} has {len(row)} values for {len(names)} columns ({_shown_names(names)})."
            )
    columns = {name: [row[i] for row in document["data"]] for i, name in enumerate(names)}
    return columns, ["columns and data apart, as pandas' orient='split'"]


def _columns_of_lists(
    document: dict[str, list], data_file: DataFile, used_columns: Collection[str]
) -> tuple[Columns, list[str]]:
    lengths = {name: len(column) for name, column in document.items()}
    if len(document) == 1 and not set(document) & set(used_columns):
        (name, column), *_ = document.items()
        if not column:
            raise ValueError(f"{data_file} is empty: it has no rows under {name!r}.")
        if _is_list_of(column, list):
            raise ValueError(f"{data_file} holds a list of lists under {name!r}, without column names. {EXPECTED}")
    if len(set(lengths.values())) > 1:
        lengths_text = ", ".join(f"{name!r} has {length}" for name, length in list(lengths.items())[:6])
        raise ValueError(f"{data_file} is an object of lists of different lengths: {lengths_text}. {EXPECTED}")
    if not next(iter(lengths.values())):
        raise ValueError(f"{data_file} is empty: its lists have no rows.")
    return dict(document), ["an object of lists, one a column"]


def _columns_of_nested(
    document: dict[str, dict], data_file: DataFile, used_columns: Collection[str]
) -> tuple[Columns, list[str]]:
    """Columns of objects in an object: columns that hold rows, or rows that hold columns."""
    inner_keys = {key for value in document.values() for key in value}
    if set(document) <= SPLITS:
        raise ValueError(
            f"{data_file} is an object of splits ({_shown_names(document)}). Save each as a file of its own, named by "
            "its split (train.jsonl, test.jsonl)."
        )
    by_column = bool(set(document) & set(used_columns)), all(key.isdigit() for key in inner_keys)
    by_row = bool(inner_keys & set(used_columns)), all(key.isdigit() for key in document)
    if by_column == by_row or (by_column > by_row and by_row[0]):
        raise ValueError(
            f"{data_file} is an object of objects ({_shown_names(document)}), in which rows are not told. {EXPECTED}"
        )
    if by_row > by_column:
        columns, notes = rows_to_columns(list(document.values()))
        return columns, ["rows by index, as pandas' orient='index'; the index left aside", *notes]
    row_keys = list(next(iter(document.values())))
    for name, column in document.items():
        if set(column) != set(row_keys):
            odd_key = sorted(set(column) ^ set(row_keys))[0]
            raise ValueError(
                f"{data_file}: not all columns have a value for row {odd_key!r}, see {name!r}. {EXPECTED}"
            )
    columns = {name: [column[key] for key in row_keys] for name, column in document.items()}
    return columns, ["columns by index, as pandas' to_json() writes them; the index left aside"]


def _table_index(document: dict[str, Any]) -> list[str]:
    """Names of the columns that pandas' orient='table' adds for its index."""
    schema = document.get("schema")
    if not isinstance(schema, dict) or "pandas_version" not in schema:
        return []
    return [name for name in schema.get("primaryKey", []) if name in ("index", "level_0", "level_1")]


def _is_list_of(value: Any, item_type: type) -> bool:
    """Whether a value is a list, not empty, of values of one type."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, item_type) for item in value)


def _shown_names(names: Any) -> str:
    names = [repr(name if len(name) <= 30 else f"{name[:30]}…") for name in map(str, names)]
    return ", ".join(names[:6]) + ", …" * (len(names) > 6)
