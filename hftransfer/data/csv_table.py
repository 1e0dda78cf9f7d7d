"""Table of a csv or tsv file, and the checks of its rows, quotes and names."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from .row_origins import DataFile
from .text_files import TextFile

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
LINE_END = re.compile("\r\n|\n|\r")


@dataclass
class CsvTable:
    """Rows of a csv file under its header, each with its first and its last line."""

    header: list[str]
    separator: str
    quoted: bool
    rows: list[list[str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_widths(text_file: TextFile, table: CsvTable, data_file: DataFile) -> None:
    """Check that all rows have as many fields as the header; raises `ValueError`."""
    width = len(table.header)
    if not set(map(len, table.rows)) - {width}:
        return
    odd_rows = [i for i, row in enumerate(table.rows) if len(row) != width]
    row, start = table.rows[odd_rows[0]], table.starts[odd_rows[0]]
    has_more = len(row) > width
    count = "" if len(odd_rows) == 1 else f", as {len(odd_rows)} of {len(table.rows)} rows"
    message = (
        f"{data_file.line(start)}: {'more' if has_more else 'fewer'} fields than the header ({len(row)}, not {width}, "
        f"by separator {table.separator!r}{count}): {_shown_fields(row)}. "
    )
    if len(odd_rows) == len(table.rows) and len(set(map(len, table.rows))) == 1 and len(table.rows) > 1:
        message += f"All rows are so: is {_shown_fields(table.header)} the header? What stands above it must go. "
        if width == 1:
            raise ValueError(message.rstrip())
    if has_more and not any(row[width:]):
        message += "It ends in a separator too many: remove it. "
    elif (
        len(row) == width + 1
        and len(odd_rows) == len(table.rows)
        and len({fields[0] for fields in table.rows if fields[0].isdigit()}) == len(odd_rows) > 1
    ):
        message += "If the first fields are row names, as R's write.table has them, write it with row.names=FALSE. "
    elif r"\"" in "".join(_raw_lines(text_file, start, table.ends[odd_rows[0]])):
        message += r"A backslash does not escape a quote (\"). "
    if table.quoted:
        raise ValueError(f"{message}{_quoting_remedy(table.separator)}")
    raise ValueError(
        f"{message}It is read without quoting, so that a text holds no tab and no line end: replace them, or save it "
        "as .csv with quotes."
    )


def quote_problem(
    text_file: TextFile, data_file: DataFile, separator: str, start: int, end: int, error: csv.Error
) -> str:
    """Error message about the quotes of a row."""
    raw_text = "".join(_raw_lines(text_file, start, end))
    if "unexpected end" in str(error):
        problem = "a quote opens in this row that nothing closes"
    else:
        up_to_line = f", up to line {end}," if end > start else ""
        problem = f"a quoted field that starts in this row{up_to_line} goes on after its closing quote"
    backslash_hint = r" A backslash does not escape a quote (\")." if r"\"" in raw_text else ""
    row = _shortened(raw_text.strip())
    return f"{data_file.line(start)}: {problem}: {row}.{backslash_hint} {_quoting_remedy(separator)}"


def refuse_rows_within_quotes(table: CsvTable, data_file: DataFile, label_column: str) -> None:
    """Check for rows swallowed by a stray quote; raises `ValueError`.

    A line within a quoted field is such a row where it ends in a separator and a known label.
    """
    multiline_rows = [i for i, (start, end) in enumerate(zip(table.starts, table.ends, strict=True)) if end > start]
    if not multiline_rows:
        return
    longest = max(table.ends[i] - table.starts[i] + 1 for i in multiline_rows)
    table.notes.append(
        f"{len(multiline_rows)} row{'s' * (len(multiline_rows) > 1)} of several lines, "
        f"{'the longest ' * (len(multiline_rows) > 1)}of {longest}"
    )
    if label_column not in table.header:
        return
    column, width = table.header.index(label_column), len(table.header)
    known_labels = {row[column] for row in table.rows} - {""}
    for i in multiline_rows:
        line = table.starts[i]
        for field_number, content in enumerate(table.rows[i]):
            pieces = LINE_END.split(content)
            if len(pieces) == 1:
                continue
            for number, piece in enumerate(pieces):
                fields = [text.strip('"') for text in piece.split(table.separator)]
                fields_before = field_number if number == 0 else 0  # fields of this line that stand before the piece
                reaches_line_end = number < len(pieces) - 1 or field_number == width - 1  # up to the line's end
                if column == width - 1:
                    is_like_row = reaches_line_end and len(fields) > 1 and fields[-1] in known_labels
                else:
                    has_label_field = (
                        0 <= column - fields_before < len(fields) and fields[column - fields_before] in known_labels
                    )
                    is_like_row = (
                        has_label_field and reaches_line_end and len(fields) + fields_before == width and all(fields)
                    )
                if is_like_row:
                    raise ValueError(
                        f"{data_file.line(table.starts[i])}: a quoted field that starts in this row holds line "
                        f"{line + number}, which is like a row of its own ({_shortened(piece)}): is a quote "
                        f"astray? {_quoting_remedy(table.separator)}"
                    )
            line += len(pieces) - 1


def named_columns(table: CsvTable, data_file: DataFile) -> list[int]:
    """Positions of the columns that are read.

    Columns without a name and content are left aside, as is the index that pandas writes.
    """
    kept_columns = list(range(len(table.header)))
    while not table.header[kept_columns[-1]] and not any(row[kept_columns[-1]] for row in table.rows):
        kept_columns.pop()
    if len(kept_columns) < len(table.header):
        table.notes.append("empty fields at the line ends left aside")
    if len(kept_columns) > 1 and not table.header[0]:
        kept_columns = kept_columns[1:]
        table.notes.append("the first column, which has no name, left aside as an index (pandas writes one)")
    for i in kept_columns:
        if not table.header[i]:
            raise ValueError(f"{data_file}: the header has no name for field {i + 1}. Name it, or drop the column.")
    names = [table.header[i] for i in kept_columns]
    duplicates = [name for name in names if names.count(name) > 1]
    if duplicates:
        raise ValueError(
            f"{data_file}: two columns are called {duplicates[0]!r}. Rename or drop one; is line 1 a header?"
        )
    if not table.rows:
        raise ValueError(f"{data_file} is empty: it has a header but no rows.")
    if not table.quoted:
        quoted_fields = sum(
            len(text) > 1 and text[0] == text[-1] == '"' for row in table.rows for text in row if text[:1] == '"'
        )
        if quoted_fields:
            table.notes.append(
                f"{quoted_fields} field(s) in double quotes, kept as written (.tsv is read without quoting)"
            )
    return kept_columns


def refuse_other_tables(table: CsvTable, data_file: DataFile, label_column: str) -> None:
    """Check for a repeated header, a Markdown table and an unknown separator; raises `ValueError`."""
    if len(table.header) == 1:
        words = re.split(r"[^\w-]+", table.header[0])
        if label_column in words and len(words) > 1:
            raise ValueError(
                f"{data_file.line(1)}: the header is one field, {_shortened(table.header[0])}: no known separator is "
                "in it. Separate names and fields by a comma, a semicolon, a tab or a |."
            )
        return
    for start, row in zip(table.starts, table.rows, strict=True):
        if row[0].strip() == table.header[0] and [field.strip() for field in row] == table.header:
            raise ValueError(
                f"{data_file.line(start)}: the header comes again ({_shown_fields(row)}). Were two files put "
                "together? Remove the line."
            )
    if table.separator == "|" and all(re.fullmatch(r"\s*:?-*:?\s*", field) for field in table.rows[0]):
        raise ValueError(
            f"{data_file.line(table.starts[0])}: this is a Markdown table. Save it as csv, without the line of dashes "
            "and the | at both ends."
        )


def refuse_missing_header(table: CsvTable, data_file: DataFile, kept_columns: Sequence[int]) -> None:
    """Check for a first line that is a row, whose values occur below as well; raises `ValueError`."""
    for i in kept_columns:
        recurs = any(row[i] == table.header[i] for row in table.rows)
        if recurs or (NUMBER.fullmatch(table.header[i]) and all(NUMBER.fullmatch(row[i]) for row in table.rows)):
            reason = "comes again below" if recurs else "is a number, as all below"
            raise ValueError(
                f"{data_file.line(1)}: this looks like a row and not like a header: {table.header[i]!r} {reason}. Put "
                "names above the rows, such as: " + table.separator.join(["text", "label"])
            )
    table.notes.append(f"the first line taken as names: {_shown_fields([table.header[i] for i in kept_columns])}")


def _raw_lines(text_file: TextFile, start: int, end: int) -> list[str]:
    """Lines of the file as they are written, both ends included."""
    return list(islice(text_file.lines(""), start - 1, end))


def _quoting_remedy(separator: str) -> str:
    """Remedy for fields that are split at the wrong places."""
    shown = "<tab>" if separator == "\t" else separator
    tabs = "" if separator == "\t" else ", or separated by tabs as .tsv, which is read without quoting"
    return (
        "Texts that hold a separator, a quote or a line end go in double quotes, with quotes inside written twice "
        f'("so{shown} ""this"" way"{shown}up). Where that is hard, save the rows as jsonl{tabs}.'
    )


def _shortened(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}…")


def _shown_fields(row: Sequence[str]) -> str:
    """Fields of a row, shortened for a message."""
    return ", ".join(_shortened(text, 30) for text in row[:6]) + ", …" * (len(row) > 6)
