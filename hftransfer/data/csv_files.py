"""Strict reader of csv and tsv files: columns of text, each row with its line in the file."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from .csv_table import (
    CsvTable,
    check_widths,
    named_columns,
    quote_problem,
    refuse_missing_header,
    refuse_other_tables,
    refuse_rows_within_quotes,
)
from .row_origins import DataFile
from .text_files import TextFile

SUFFIX_SEPARATORS = {".csv": ",", ".tsv": "\t"}
SEPARATORS = (",", "\t", ";", "|")


def read_csv_file(
    text_file: TextFile, data_file: DataFile, suffix: str, label_column: str, content_columns: Collection[str]
) -> tuple[dict[str, Any], list[int], list[str]]:
    """Columns of a csv or tsv file, read strictly.

    Args:
        text_file: content of the file.
        data_file: the file, for messages.
        suffix: `.csv`, or `.tsv`, which is read without quoting.
        label_column: what its fields hold is what a line swallowed by a stray quote would end in.
        content_columns: other columns that are looked for, which tell a header from a row.

    Returns:
        columns by name, as Arrow arrays of strings, empty fields as nulls; the first line of each row; notes.

    Raises:
        ValueError: a row has more or fewer fields than the header, quotes are astray, or the header is not one.
    """
    import pyarrow as pa

    used_columns = {label_column, *content_columns}
    table = _read_with_best_separator(text_file, data_file, suffix, used_columns)
    refuse_rows_within_quotes(table, data_file, label_column)
    kept_columns = named_columns(table, data_file)
    names = [table.header[i] for i in kept_columns]
    refuse_other_tables(table, data_file, label_column)
    if not used_columns & set(names):
        refuse_missing_header(table, data_file, kept_columns)
    columns = {table.header[i]: pa.array([row[i] or None for row in table.rows], pa.string()) for i in kept_columns}
    return columns, table.starts, table.notes


def _read_with_best_separator(
    text_file: TextFile, data_file: DataFile, suffix: str, used_columns: set[str]
) -> CsvTable:
    """Rows split by the separator that header and all rows agree on."""
    suffix_separator = SUFFIX_SEPARATORS[suffix]
    first_line, first_line_number = next(
        (line, number) for number, line in enumerate(text_file.lines("")) if line.strip()
    )
    declared_separator = re.fullmatch(r'"?sep=(.)"?\s*', first_line)  # as Excel writes it
    headers = {}
    for separator in declared_separator[1] if declared_separator else SEPARATORS:
        quoted = suffix == ".csv" or separator != suffix_separator
        headers[separator] = _header(text_file, separator, quoted, first_line_number + bool(declared_separator))
    candidates = [separator for separator, header in headers.items() if declared_separator or len(header) > 1] or [
        suffix_separator
    ]

    def rank(separator: str) -> tuple[bool, bool, int]:
        names = {name.strip(' "') for name in headers[separator]}
        return not used_columns & names, separator != suffix_separator, -len(names)

    refusal: ValueError | None = None
    for separator in sorted(candidates, key=rank):
        try:
            table = _read_with_separator(
                text_file, data_file, separator, suffix, first_line_number + bool(declared_separator)
            )
        except ValueError as error:
            refusal = refusal or error
        else:
            if separator != suffix_separator:
                table.notes.insert(0, f"separator {separator!r}")
            return table
    assert refusal is not None
    raise refusal


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _reader(text_file: TextFile, separator: str, quoted: bool, skip: int, cut_spaces: bool = False) -> Any:
    """`csv.reader` of the lines after the first `skip`, strict about quotes."""
    lines = islice(text_file.lines(""), skip, None)
    return csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
        skipinitialspace=cut_spaces,
    )


def _header(text_file: TextFile, separator: str, quoted: bool, skip: int) -> list[str]:
    """Fields of the first row, or nothing where its quotes are astray."""
    with _fields_of_any_length():
        try:
            return next(row for row in _reader(text_file, separator, quoted, skip) if row)
        except (csv.Error, StopIteration):
            return []


def _read_with_separator(text_file: TextFile, data_file: DataFile, separator: str, suffix: str, skip: int) -> CsvTable:
    """Rows split by this separator, each of as many fields as the header.

    Spaces before quotes are cut where all rows have them.
    """
    first_error, table = None, None
    try:
        table = _read_rows(text_file, data_file, separator, suffix, skip)
    except ValueError as error:
        first_error = error
    if table is None or _has_spaces_before_quotes(table):
        try:
            return _read_rows(text_file, data_file, separator, suffix, skip, True)
        except ValueError:
            pass
    if table is None:
        assert first_error is not None
        raise first_error
    return table


def _has_spaces_before_quotes(table: CsvTable) -> bool:
    """Whether all fields of a column are quoted after a space, so that the quotes are no part of them."""
    return table.quoted and any(
        all(row[i].startswith(' "') and row[i].endswith('"') for row in table.rows)
        for i in range(1, len(table.header) if table.rows else 0)
    )


def _read_rows(
    text_file: TextFile, data_file: DataFile, separator: str, suffix: str, skip: int, cut_spaces: bool = False
) -> CsvTable:
    """Rows split by this separator, as many fields in each as in the header.

    `cut_spaces` cuts spaces after separators.
    """
    notes = []
    quoted = suffix == ".csv" or separator != SUFFIX_SEPARATORS[suffix]
    raw_header = _header(text_file, separator, quoted, skip)
    if not quoted and raw_header and all(len(name) > 1 and name[0] == name[-1] == '"' for name in raw_header):
        quoted = True
        notes.append("read with quoting, as its header is quoted")
    cut_spaces = (cut_spaces and quoted) or (
        len(raw_header) > 1 and not separator.isspace() and all(name.startswith(" ") for name in raw_header[1:])
    )
    if cut_spaces:
        notes.append("spaces after separators cut")
    table = CsvTable([], separator, quoted, notes=notes)
    reader = _reader(text_file, separator, quoted, skip, cut_spaces)
    start, blank_lines = skip + 1, 0
    with _fields_of_any_length():
        try:
            for row in reader:
                if row:
                    table.rows.append(row)
                    table.starts.append(start)
                    table.ends.append(skip + reader.line_num)
                else:
                    blank_lines += 1
                start = skip + reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                quote_problem(text_file, data_file, separator, start, skip + reader.line_num, error)
            ) from error
    header = table.rows.pop(0) if table.rows else []
    header_line = table.starts.pop(0) if table.starts else skip + 1
    table.ends[:1] = []
    table.header = [name.strip() for name in header]
    if table.header != header:
        notes.append("white space around column names cut")
    blank_lines += _drop_blank_rows(table) if len(header) > 1 else 0
    check_widths(text_file, table, data_file)
    if not any(table.header):
        raise ValueError(f"{data_file.line(header_line)}: the header names no column. Name them, such as: text,label")
    if blank_lines:
        notes.append(f"{blank_lines} blank line{'s' * (blank_lines > 1)} left aside")
    return table


def _drop_blank_rows(table: CsvTable) -> int:
    """Number of dropped lines that hold white space alone.

    Rows of empty fields are dropped as well, and noted.
    """
    empty_rows = {i for i, row in enumerate(table.rows) if not any(row) or (len(row) == 1 and row[0].isspace())}
    if not empty_rows:
        return 0
    separators = sum(len(table.rows[i]) > 1 for i in empty_rows)
    filled_rows = [i for i in range(len(table.rows)) if i not in empty_rows]
    table.rows = [table.rows[i] for i in filled_rows]
    table.starts = [table.starts[i] for i in filled_rows]
    table.ends = [table.ends[i] for i in filled_rows]
    if separators:
        table.notes.append(f"{separators} row{'s' * (separators > 1)} of empty fields left aside")
    return len(empty_rows) - separators
