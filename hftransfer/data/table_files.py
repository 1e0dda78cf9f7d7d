"""Table files: one csv, tsv, json, jsonl or parquet file as a dataset, read strictly, with what was read said."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .file_signatures import refuse_other_format
from .row_origins import ORIGIN, DataFile, visible
from .text_files import SIGNATURE_BYTES, OPENERS, read_text_file

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
USUAL = ("text", "tokens", "image", "file_name")  # the usual names of what is read


@dataclass(frozen=True)
class TableRead:
    """A table file as it was read.

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
    """The ending in `FORMATS` of a table file's name, in any case, packed or not; `None` for other files.

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
    where: str,
    encoding: str | None = None,
    label_column: str = "label",
    used: Collection[str] = USUAL,
) -> TableRead:
    """Reads one table file strictly: what it holds is what comes out, or an error names the file and the line.

    Args:
        path: of the file, with an ending in `FORMATS`, in any case; text files may be packed (.gz, .bz2, .xz).
        where: how messages call the file's role, such as `"source"`.
        encoding: of a text file, where it is neither UTF-8 nor marked by a byte order mark.
        label_column: where labels are: what is a known label helps to find stray quotes.
        used: other columns that matter: there, a dict or a list among plain values is an error; elsewhere it is text.

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
    place = DataFile(where, path)
    suffix = table_format(path)
    if path.is_dir():
        raise ValueError(f"{place} is a folder, not a file.")
    if not path.exists():
        raise FileNotFoundError(f"{place}: there is no such file.")
    if not path.is_file():
        raise ValueError(f"{place} is a pipe or a device. Save its content as a file and give that.")
    if suffix is None:
        raise ValueError(f"{place}: files must end in {', '.join(FORMATS)}.{_remedy(path)}")
    columns: Mapping[str, Any]
    lines: Sequence[int] | None
    if suffix == ".parquet":
        return _read_parquet(place, {label_column, *used})
    characters = read_text_file(place, suffix, encoding)
    if suffix in (".csv", ".tsv"):
        from .csv_files import read_csv_file

        columns, lines, notes = read_csv_file(characters, place, suffix, label_column, used)
    else:
        from .json_files import read_json_file

        columns, lines, notes = read_json_file(characters, place, suffix, label_column, used)
    import pyarrow as pa
    from datasets.fingerprint import Hasher

    settings = repr((place, suffix, encoding, label_column, sorted(used)))
    fingerprint = Hasher.hash_bytes([characters.content, settings.encode()])
    return _assembled(pa.table(dict(columns)), place, lines, (*characters.notes, *notes), fingerprint)


def _remedy(path: Path) -> str:
    """What to do with a file of another ending."""
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return " Save the sheet as .csv."
    if path.suffix.lower() in (*OPENERS, ".zip", ".zst", ".7z", ".rar", ".tar", ".tgz", ".lz4"):
        return f" Text files may be packed ({', '.join(OPENERS)}); unpack others."
    return " Give it the ending that says what it holds."


def _assembled(
    table: Any, place: DataFile, lines: Sequence[int] | None, notes: Sequence[str], fingerprint: str
) -> TableRead:
    """With the column of origins, as a dataset."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features
    from datasets.table import table_cast

    if ORIGIN in table.column_names:
        raise ValueError(f"{place}: a column is called {ORIGIN!r}, a name that is kept for row numbers. Rename it.")
    if not table.num_rows:
        raise ValueError(f"{place} is empty: it has no rows.")
    origins = pa.array(place.origins(table.num_rows, lines), pa.string())
    table = table.append_column(pa.field(ORIGIN, pa.string()), origins)
    features = Features.from_arrow_schema(table.schema)
    table = table_cast(table, features.arrow_schema)
    dataset = Dataset(table, info=DatasetInfo(features=features), fingerprint=fingerprint)
    return TableRead(dataset, len(dataset), tuple(visible(dataset.column_names)), tuple(notes))


def _read_parquet(place: DataFile, wanted: Collection[str]) -> TableRead:
    """A parquet file, with the features that `datasets` stored in it."""
    import pyarrow as pa
    from datasets.fingerprint import Hasher
    from pyarrow import parquet

    notes = []
    try:
        with pa.memory_map(str(place.path)) as file:
            refuse_other_format(file.read(SIGNATURE_BYTES), place, ".parquet")
            file.seek(0)
            fingerprint = Hasher.hash_bytes([memoryview(file.read_buffer()), str(place).encode()])
            table = parquet.ParquetFile(file).read()
    except PermissionError as error:
        raise ValueError(f"{place}: you may not read this file. Change its permissions (chmod u+r).") from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{place} cannot be read as parquet: {reason}. Is it whole, and does it hold what its ending says? Fetch "
            "or write it again (pandas: df.to_parquet(path))."
        ) from error
    twice = sorted({column for column in table.column_names if table.column_names.count(column) > 1})
    if twice:
        raise ValueError(f"{place}: two columns are called {twice[0]!r}. Rename or drop one of them.")
    index = [column for column in table.column_names if column.startswith("__index_level_")]
    if index:
        table = table.drop_columns(index)
        notes.append("the index of pandas left aside")
    strange = _strange(table.schema)
    for column in strange:
        kind = table.schema.field(column).type
        if column in wanted:
            raise ValueError(f"{place}: {column!r} is of the type {kind}, which `datasets` does not know. Convert it.")
        notes.append(f"{column!r} left aside, of the type {kind}")
    return _assembled(_plain(table.drop_columns(strange)), place, None, notes, fingerprint)


def _strange(schema: Any) -> list[str]:
    """Columns of types that `datasets` does not know."""
    import pyarrow as pa
    from datasets import Features

    found = []
    for field in schema:
        try:
            Features.from_arrow_schema(pa.schema([pa.field(field.name, _plain_type(field.type))]))
        except (ValueError, TypeError, pa.ArrowException):
            found.append(field.name)
    return found


def _plain(table: Any) -> Any:
    """With plain types in place of Arrow's large ones, views and dictionaries."""
    import pyarrow as pa

    fields = [pa.field(field.name, _plain_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def _plain_type(kind: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types

    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_null(kind):
        return pa.string()
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    return kind
