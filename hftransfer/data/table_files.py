"""Strict reader of table files: one csv, tsv, json, jsonl or parquet file as a dataset, with notes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .file_signatures import refuse_other_format
from .row_origins import ORIGIN, DataFile, visible
from .text_files import OPENERS, SIGNATURE_BYTES, read_text_file

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
USUAL = ("text", "tokens", "image", "file_name")  # the usual names of what is read


@dataclass(frozen=True)
class TableRead:
    """Table file as it was read: its dataset, columns and notes.

    Attributes:
        dataset: a `datasets.Dataset`; its column `ORIGIN` holds what messages call each row.
        rows: their number.
        columns: names of the file's own columns that were read.
        notes: what is worth saying in the plan, such as `"separator ';'"` or `"encoding cp1252"`.
    """

    dataset: Any
    rows: int
    columns: tuple[str, ...]
    notes: tuple[str, ...]


def table_format(path: Path) -> str | None:
    """Ending in `FORMATS` of a table file's name, in any case, packed or not; `None` for other files.

    Example:
        >>> table_format(Path("News.CSV")), table_format(Path("news.jsonl.gz")), table_format(Path("notes.txt"))
        ('.csv', '.jsonl', None)
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in FORMATS and suffixes[-1] != ".parquet" else None
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def read_table(
    path: Path,
    role: str,
    encoding: str | None = None,
    label_column: str = "label",
    content_columns: Collection[str] = USUAL,
) -> TableRead:
    """Dataset of one table file, read strictly: what it holds comes out, or an error names the file and the line.

    Args:
        path: of the file, with an ending in `FORMATS`, in any case; text files may be packed (.gz, .bz2, .xz).
        role: of the file, for messages, such as `"source"`.
        encoding: of a text file, where it is neither UTF-8 nor marked by a byte order mark.
        label_column: where labels are: what is a known label helps to find stray quotes.
        content_columns: other columns that are read for examples: there, a dict or a list among plain values is an
            error; elsewhere it is text.

    Returns:
        The rows in order. csv and tsv columns are all text, and an empty field is `None`; json columns have the
        types of their values; parquet columns those of the file, `datasets` features (labels, images) included.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file with rows of one table; the message says where, why, and how to mend it.

    Example:
        >>> Path("news.csv").write_text("text;label\\nrose;up\\nfell;down\\n")
        >>> read = read_table(Path("news.csv"), "source")
        >>> read.rows, read.columns, read.notes
        (2, ('text', 'label'), ("separator ';'",))
    """
    data_file = DataFile(role, path)
    suffix = table_format(path)
    if path.is_dir():
        raise ValueError(f"{data_file} is a folder, not a file.")
    if not path.exists():
        raise FileNotFoundError(f"{data_file}: there is no such file.")
    if not path.is_file():
        raise ValueError(f"{data_file} is a pipe or a device. Save its content as a file and give that.")
    if suffix is None:
        raise ValueError(f"{data_file}: files must end in {', '.join(FORMATS)}.{_remedy(path)}")
    columns: Mapping[str, Any]
    lines: Sequence[int] | None
    if suffix == ".parquet":
        return _read_parquet(data_file, {label_column, *content_columns})
    text_file = read_text_file(data_file, suffix, encoding)
    if suffix in (".csv", ".tsv"):
        from .csv_files import read_csv_file

        columns, lines, notes = read_csv_file(text_file, data_file, suffix, label_column, content_columns)
    else:
        from .json_files import read_json_file

        columns, lines, notes = read_json_file(text_file, data_file, suffix, label_column, content_columns)
    import pyarrow as pa
    from datasets.fingerprint import Hasher

    settings = repr((data_file, suffix, encoding, label_column, sorted(content_columns)))
    fingerprint = Hasher.hash_bytes([text_file.content, settings.encode()])
    return _table_with_origins(pa.table(dict(columns)), data_file, lines, (*text_file.notes, *notes), fingerprint)


def _remedy(path: Path) -> str:
    """Remedy for a file of another ending."""
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return " Save the sheet as .csv."
    if path.suffix.lower() in (*OPENERS, ".zip", ".zst", ".7z", ".rar", ".tar", ".tgz", ".lz4"):
        return f" Text files may be packed ({', '.join(OPENERS)}); unpack others."
    return " Give it the ending that says what it holds."


def _table_with_origins(
    table: Any, data_file: DataFile, lines: Sequence[int] | None, notes: Sequence[str], fingerprint: str
) -> TableRead:
    """Table as a dataset, with the column of row origins."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features
    from datasets.table import table_cast

    if ORIGIN in table.column_names:
        raise ValueError(
            f"{data_file}: a column is called {ORIGIN!r}, a name that is kept for row numbers. Rename it."
        )
    if not table.num_rows:
        raise ValueError(f"{data_file} is empty: it has no rows.")
    origins = pa.array(data_file.origins(table.num_rows, lines), pa.string())
    table = table.append_column(pa.field(ORIGIN, pa.string()), origins)
    features = Features.from_arrow_schema(table.schema)
    table = table_cast(table, features.arrow_schema)
    dataset = Dataset(table, info=DatasetInfo(features=features), fingerprint=fingerprint)
    return TableRead(dataset, len(dataset), tuple(visible(dataset.column_names)), tuple(notes))


def _read_parquet(data_file: DataFile, used_columns: Collection[str]) -> TableRead:
    """Table of a parquet file, with the features that `datasets` stored in it."""
    import pyarrow as pa
    from datasets.fingerprint import Hasher
    from pyarrow import parquet

    notes = []
    try:
        with pa.memory_map(str(data_file.path)) as file:
            refuse_other_format(file.read(SIGNATURE_BYTES), data_file, ".parquet")
            file.seek(0)
            fingerprint = Hasher.hash_bytes([memoryview(file.read_buffer()), str(data_file).encode()])
            table = parquet.ParquetFile(file).read()
    except PermissionError as error:
        raise ValueError(f"{data_file}: you may not read this file. Change its permissions (chmod u+r).") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{data_file} cannot be read as parquet: {reason}. Is it whole, and does it hold what its ending says? "
            "Fetch or write it again (pandas: df.to_parquet(path))."
        ) from error
    duplicates = sorted({column for column in table.column_names if table.column_names.count(column) > 1})
    if duplicates:
        raise ValueError(f"{data_file}: two columns are called {duplicates[0]!r}. Rename or drop one of them.")
    index = [column for column in table.column_names if column.startswith("__index_level_")]
    if index:
        table = table.drop_columns(index)
        notes.append("the index of pandas left aside")
    unknown_types = _unknown_type_columns(table.schema)
    for column in unknown_types:
        arrow_type = table.schema.field(column).type
        if column in used_columns:
            raise ValueError(
                f"{data_file}: {column!r} is of the type {arrow_type}, which `datasets` does not know. Convert it."
            )
        notes.append(f"{column!r} left aside, of the type {arrow_type}")
    return _table_with_origins(
        _with_plain_types(table.drop_columns(unknown_types)), data_file, None, notes, fingerprint
    )


def _unknown_type_columns(schema: Any) -> list[str]:
    """Names of columns of types that `datasets` does not know."""
    import pyarrow as pa
    from datasets import Features

    unknown = []
    for field in schema:
        try:
            Features.from_arrow_schema(pa.schema([pa.field(field.name, _plain_type(field.type))]))
        except (ValueError, TypeError, pa.ArrowException):
            unknown.append(field.name)
    return unknown


def _with_plain_types(table: Any) -> Any:
    """Table with plain types in place of Arrow's large ones, views and dictionaries."""
    import pyarrow as pa

    fields = [pa.field(field.name, _plain_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def _plain_type(arrow_type: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if types.is_large_string(arrow_type) or types.is_string_view(arrow_type):
        return pa.string()
    if types.is_large_binary(arrow_type) or types.is_binary_view(arrow_type):
        return pa.binary()
    if types.is_null(arrow_type):
        return pa.string()
    if types.is_dictionary(arrow_type):
        return _plain_type(arrow_type.value_type)
    if types.is_list(arrow_type) or types.is_large_list(arrow_type):
        return pa.list_(_plain_type(arrow_type.value_type))
    if types.is_struct(arrow_type):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in arrow_type])
    return arrow_type
