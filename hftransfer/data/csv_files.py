"""Separated values: csv and tsv files as columns of text, each row with its line."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from .row_origins import DataFile
from .text_files import TextFile

SUFFIX_SEPARATORS = {".csv": ",", ".tsv": "\t"}
SEPARATORS = (",", "\t", ";", "|")
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
LINE_END = re.compile("\r\n|\n|\r")


@dataclass
class CsvTable:
    """Rows of fields under a header, each with its first and its last line."""

    header: list[str]
    separator: str
    quoted: bool
    rows: list[list[str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_csv_file(
    characters: TextFile, place: DataFile, suffix: str, label_column: str, used: Collection[str]
) -> tuple[dict[str, Any], list[int], list[str]]:
    """Reads a csv or tsv file.

    Args:
        characters: of the file.
        place: of the file.
        suffix: `.csv`, or `.tsv`, which is read without quoting.
        label_column: what its fields hold is what a line swallowed by a stray quote would end in.
        used: other columns that are looked for, which tell a header from a row.

    Returns:
        columns by name, as Arrow arrays of strings, empty fields as nulls; the first line of each row; notes.

    Raises:
        ValueError: a row has more or fewer fields than the header, quotes are astray, or the header is not one.
    """
    import pyarrow as pa

    wanted = {label_column, *used}
    found = _separated(characters, place, suffix, wanted)
    _refuse_swallowed(found, place, label_column)
    kept = _named(found, place)
    names = [found.header[i] for i in kept]
    _refuse_other_tables(found, place, label_column)
    if not wanted & set(names):
        _refuse_headless(found, place, kept)
    columns = {found.header[i]: pa.array([row[i] or None for row in found.rows], pa.string()) for i in kept}
    return columns, found.starts, found.notes


def _separated(characters: TextFile, place: DataFile, suffix: str, wanted: set[str]) -> CsvTable:
    """Rows by the separator that header and all rows agree on."""
    own = SUFFIX_SEPARATORS[suffix]
    first, start = next((line, n) for n, line in enumerate(characters.lines("")) if line.strip())
    said = re.fullmatch(r'"?sep=(.)"?\s*', first)  # as Excel writes it
    headers = {}
    for separator in said[1] if said else SEPARATORS:
        quoted = suffix == ".csv" or separator != own
        headers[separator] = _header(characters, separator, quoted, start + bool(said))
    able = [s for s, header in headers.items() if said or len(header) > 1] or [own]

    def rank(separator: str) -> tuple[bool, bool, int]:
        names = {name.strip(' "') for name in headers[separator]}
        return not wanted & names, separator != own, -len(names)

    refusal: ValueError | None = None
    for separator in sorted(able, key=rank):
        try:
            found = _parsed(characters, place, separator, suffix, start + bool(said))
        except ValueError as error:
            refusal = refusal or error
        else:
            if separator != own:
                found.notes.insert(0, f"separator {separator!r}")
            return found
    assert refusal is not None
    raise refusal


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _reader(characters: TextFile, separator: str, quoted: bool, skip: int, spaced: bool = False) -> Any:
    """A strict reader of the lines after the first `skip`."""
    lines = islice(characters.lines(""), skip, None)
    return csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
        skipinitialspace=spaced,
    )


def _header(characters: TextFile, separator: str, quoted: bool, skip: int) -> list[str]:
    """The first row, or nothing where its quotes are astray."""
    with _fields_of_any_length():
        try:
            return next(row for row in _reader(characters, separator, quoted, skip) if row)
        except (csv.Error, StopIteration):
            return []


def _parsed(characters: TextFile, place: DataFile, separator: str, suffix: str, skip: int) -> CsvTable:
    """Rows by this separator, each of as many fields as the header; spaces before quotes are cut where all agree."""
    refusal, found = None, None
    try:
        found = _fields(characters, place, separator, suffix, skip)
    except ValueError as error:
        refusal = error
    if found is None or _quoted_late(found):
        try:
            return _fields(characters, place, separator, suffix, skip, True)
        except ValueError:
            pass
    if found is None:
        assert refusal is not None
        raise refusal
    return found


def _quoted_late(found: CsvTable) -> bool:
    """Whether all fields of a column are quoted after a space, so that the quotes are no part of them."""
    return found.quoted and any(
        all(row[i].startswith(' "') and row[i].endswith('"') for row in found.rows)
        for i in range(1, len(found.header) if found.rows else 0)
    )


def _fields(
    characters: TextFile, place: DataFile, separator: str, suffix: str, skip: int, spaced: bool = False
) -> CsvTable:
    """Rows by this separator, as many fields in each as in the header; `spaced` cuts spaces after separators."""
    notes = []
    quoted = suffix == ".csv" or separator != SUFFIX_SEPARATORS[suffix]
    raw = _header(characters, separator, quoted, skip)
    if not quoted and raw and all(len(name) > 1 and name[0] == name[-1] == '"' for name in raw):
        quoted = True
        notes.append("read with quoting, as its header is quoted")
    spaced = (spaced and quoted) or (
        len(raw) > 1 and not separator.isspace() and all(name.startswith(" ") for name in raw[1:])
    )
    if spaced:
        notes.append("spaces after separators cut")
    found = CsvTable([], separator, quoted, notes=notes)
    reader = _reader(characters, separator, quoted, skip, spaced)
    start, blank = skip + 1, 0
    with _fields_of_any_length():
        try:
            for row in reader:
                if row:
                    found.rows.append(row)
                    found.starts.append(start)
                    found.ends.append(skip + reader.line_num)
                else:
                    blank += 1
                start = skip + reader.line_num + 1
        except csv.Error as error:
            raise ValueError(_astray(characters, place, separator, start, skip + reader.line_num, error)) from error
    header = found.rows.pop(0) if found.rows else []
    first = found.starts.pop(0) if found.starts else skip + 1
    found.ends[:1] = []
    found.header = [name.strip() for name in header]
    if found.header != header:
        notes.append("white space around column names cut")
    blank += _leave_blank(found) if len(header) > 1 else 0
    _check_widths(characters, found, place)
    if not any(found.header):
        raise ValueError(f"{place.line(first)}: the header names no column. Name them, such as: text,label")
    if blank:
        notes.append(f"{blank} blank line{'s' * (blank > 1)} left aside")
    return found


def _leave_blank(found: CsvTable) -> int:
    """Leaves rows aside that hold nothing; the number of those that are lines of white space, the others are noted."""
    bare = {i for i, row in enumerate(found.rows) if not any(row) or (len(row) == 1 and row[0].isspace())}
    if not bare:
        return 0
    separators = sum(len(found.rows[i]) > 1 for i in bare)
    kept = [i for i in range(len(found.rows)) if i not in bare]
    found.rows = [found.rows[i] for i in kept]
    found.starts = [found.starts[i] for i in kept]
    found.ends = [found.ends[i] for i in kept]
    if separators:
        found.notes.append(f"{separators} row{'s' * (separators > 1)} of empty fields left aside")
    return len(bare) - separators


def _check_widths(characters: TextFile, found: CsvTable, place: DataFile) -> None:
    width = len(found.header)
    if not set(map(len, found.rows)) - {width}:
        return
    odd = [i for i, row in enumerate(found.rows) if len(row) != width]
    row, start = found.rows[odd[0]], found.starts[odd[0]]
    more = len(row) > width
    count = "" if len(odd) == 1 else f", as {len(odd)} of {len(found.rows)} rows"
    message = (
        f"{place.line(start)}: {'more' if more else 'fewer'} fields than the header ({len(row)}, not {width}, by "
        f"separator {found.separator!r}{count}): {_shown(row)}. "
    )
    if len(odd) == len(found.rows) and len(set(map(len, found.rows))) == 1 and len(found.rows) > 1:
        message += f"All rows are so: is {_shown(found.header)} the header? What stands above it must go. "
        if width == 1:
            raise ValueError(message.rstrip())
    if more and not any(row[width:]):
        message += "It ends in a separator too many: remove it. "
    elif (
        len(row) == width + 1
        and len(odd) == len(found.rows)
        and len({r[0] for r in found.rows if r[0].isdigit()}) == len(odd) > 1
    ):
        message += "If the first fields are row names, as R's write.table has them, write it with row.names=FALSE. "
    elif r"\"" in "".join(_raw(characters, start, found.ends[odd[0]])):
        message += r"A backslash does not escape a quote (\"). "
    if found.quoted:
        raise ValueError(f"{message}{_quoting(found.separator)}")
    raise ValueError(
        f"{message}It is read without quoting, so that a text holds no tab and no line end: replace them, or save it "
        "as .csv with quotes."
    )


def _astray(characters: TextFile, place: DataFile, separator: str, start: int, end: int, error: csv.Error) -> str:
    """What is wrong with the quotes of a row."""
    raw = "".join(_raw(characters, start, end))
    if "unexpected end" in str(error):
        what = "a quote opens in this row that nothing closes"
    else:
        until = f", up to line {end}," if end > start else ""
        what = f"a quoted field that starts in this row{until} goes on after its closing quote"
    also = r" A backslash does not escape a quote (\")." if r"\"" in raw else ""
    return f"{place.line(start)}: {what}: {_short(raw.strip())}.{also} {_quoting(separator)}"


def _refuse_swallowed(found: CsvTable, place: DataFile, label_column: str) -> None:
    """Refuses quoted fields that hold lines which are rows: those end in a separator and a known label."""
    over = [i for i, (start, end) in enumerate(zip(found.starts, found.ends, strict=True)) if end > start]
    if not over:
        return
    longest = max(found.ends[i] - found.starts[i] + 1 for i in over)
    found.notes.append(
        f"{len(over)} row{'s' * (len(over) > 1)} of several lines, {'the longest ' * (len(over) > 1)}of {longest}"
    )
    if label_column not in found.header:
        return
    column, width = found.header.index(label_column), len(found.header)
    known = {row[column] for row in found.rows} - {""}
    for i in over:
        line = found.starts[i]
        for at, content in enumerate(found.rows[i]):
            pieces = LINE_END.split(content)
            if len(pieces) == 1:
                continue
            for number, piece in enumerate(pieces):
                parts = [part.strip('"') for part in piece.split(found.separator)]
                before = at if number == 0 else 0  # fields of this line that stand before the piece
                whole = number < len(pieces) - 1 or at == width - 1  # up to the line's end
                if column == width - 1:
                    row_like = whole and len(parts) > 1 and parts[-1] in known
                else:
                    there = 0 <= column - before < len(parts) and parts[column - before] in known
                    row_like = there and whole and len(parts) + before == width and all(parts)
                if row_like:
                    raise ValueError(
                        f"{place.line(found.starts[i])}: a quoted field that starts in this row holds line "
                        f"{line + number}, which is like a row of its own ({_short(piece)}): is a quote "
                        f"astray? {_quoting(found.separator)}"
                    )
            line += len(pieces) - 1


def _named(found: CsvTable, place: DataFile) -> list[int]:
    """The columns that are read, by place; those without name and content are left aside, as is pandas' index."""
    kept = list(range(len(found.header)))
    while not found.header[kept[-1]] and not any(row[kept[-1]] for row in found.rows):
        kept.pop()
    if len(kept) < len(found.header):
        found.notes.append("empty fields at the line ends left aside")
    if len(kept) > 1 and not found.header[0]:
        kept = kept[1:]
        found.notes.append("the first column, which has no name, left aside as an index (pandas writes one)")
    for i in kept:
        if not found.header[i]:
            raise ValueError(f"{place}: the header has no name for field {i + 1}. Name it, or drop the column.")
    names = [found.header[i] for i in kept]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{place}: two columns are called {twice[0]!r}. Rename or drop one; is line 1 a header?")
    if not found.rows:
        raise ValueError(f"{place} is empty: it has a header but no rows.")
    if not found.quoted:
        quotes = sum(len(f) > 1 and f[0] == f[-1] == '"' for row in found.rows for f in row if f[:1] == '"')
        if quotes:
            found.notes.append(f"{quotes} field(s) in double quotes, kept as written (.tsv is read without quoting)")
    return kept


def _refuse_other_tables(found: CsvTable, place: DataFile, label_column: str) -> None:
    """Refuses headers that come again, as where files were put together; Markdown; separators that are not known."""
    if len(found.header) == 1:
        parts = re.split(r"[^\w-]+", found.header[0])
        if label_column in parts and len(parts) > 1:
            raise ValueError(
                f"{place.line(1)}: the header is one field, {_short(found.header[0])}: no known separator is in it. "
                "Separate names and fields by a comma, a semicolon, a tab or a |."
            )
        return
    for start, row in zip(found.starts, found.rows, strict=True):
        if row[0].strip() == found.header[0] and [field.strip() for field in row] == found.header:
            raise ValueError(
                f"{place.line(start)}: the header comes again ({_shown(row)}). Were two files put together? Remove "
                "the line."
            )
    if found.separator == "|" and all(re.fullmatch(r"\s*:?-*:?\s*", field) for field in found.rows[0]):
        raise ValueError(
            f"{place.line(found.starts[0])}: this is a Markdown table. Save it as csv, without the line of dashes and "
            "the | at both ends."
        )


def _refuse_headless(found: CsvTable, place: DataFile, kept: Sequence[int]) -> None:
    """Refuses a first line that is a row: what it holds comes again below."""
    for i in kept:
        again = any(row[i] == found.header[i] for row in found.rows)
        if again or (NUMBER.fullmatch(found.header[i]) and all(NUMBER.fullmatch(row[i]) for row in found.rows)):
            what = "comes again below" if again else "is a number, as all below"
            raise ValueError(
                f"{place.line(1)}: this looks like a row and not like a header: {found.header[i]!r} {what}. Put names "
                "above the rows, such as: " + found.separator.join(["text", "label"])
            )
    found.notes.append(f"the first line taken as names: {_shown([found.header[i] for i in kept])}")


def _raw(characters: TextFile, start: int, end: int) -> list[str]:
    """Lines of the file, both ends included."""
    return list(islice(characters.lines(""), start - 1, end))


def _quoting(separator: str) -> str:
    """The remedy for fields that come apart."""
    shown = "<tab>" if separator == "\t" else separator
    tabs = "" if separator == "\t" else ", or separated by tabs as .tsv, which is read without quoting"
    return (
        "Texts that hold a separator, a quote or a line end go in double quotes, with quotes inside written twice "
        f'("so{shown} ""this"" way"{shown}up). Where that is hard, save the rows as jsonl{tabs}.'
    )


def _short(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}…")


def _shown(row: Sequence[str]) -> str:
    """Fields of a row, as messages show them."""
    return ", ".join(_short(text, 30) for text in row[:6]) + ", …" * (len(row) > 6)
